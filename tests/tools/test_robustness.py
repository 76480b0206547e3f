"""tools.robustness: the clean clips as evaluate predicted them, and what the table says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import nn

from genrepro import audio
from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.core.paths import EXPORT, PREDICTIONS, ROBUSTNESS, TEST
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.store import write_index, write_shard
from genrepro.model import backbone
from genrepro.model.inference import segment_logits
from stages import evaluate
from tests.support.encoded import music
from tests.support.samples import ROOT, tiny_backbone
from tools import results
from tools import robustness as tool
from tools.degradations import DEGRADATIONS

RATE = 22_050
LABELS = ["high", "low", "middle"]
CLIPS = 18


def evaluated(kind: str) -> None:
    """What `dvc repro` leaves in this folder, for a model with random weights and 12 test clips."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["evaluate"] |= {"device": "cpu", "batch_size": 4}
    params["encode"]["segment_seconds"] = 1.0
    Path("params.yaml").write_text(yaml.safe_dump(params))
    source = tiny_backbone(kind, Path("models/backbone"))
    extractor = adapt(load_extractor(source), load().encode, 1.6)
    rows, facts, split = [], [], []
    for number in range(CLIPS):
        name, label = f"c{number:02d}", LABELS[number % 3]
        path = Path("data/raw") / label / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, music(1 + number % 4 / 5, RATE, seed=number), RATE)
        samples, rate = audio.read(path)
        wave = audio.resample(samples, rate, extractor.sampling_rate)
        each = extract_segments(extractor, wave)
        rows += [(name, at, segment) for at, segment in enumerate(each)]
        facts.append((name, path.as_posix(), f"band {number // 2}"))
        split.append((name, label, "validation" if number < 6 else "test"))
    encoded = Path("data/encoded/data-00000-of-00001.arrow")
    encoded.parent.mkdir()
    write_shard(encoded, rows, extractor.model_input_names[0], rows[0][2].ndim)
    write_index(encoded.parent, [encoded])
    for name, columns, lines in (
        ("clips", ("clip", "path", "group"), facts),
        ("split", ("clip", "label", "split"), split),
    ):
        with Path(f"data/{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *lines])
    model, _ = backbone.build(source, LABELS, extractor, load().train, seed=0)
    spread(model, [features for _, _, features in rows])
    for folder in ("models/finetuned", "export"):
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
    evaluate.main(load())


def spread(model, segments: list[np.ndarray]) -> None:
    """Make a head with random weights give different labels to different clips."""
    head = [each for each in model.modules() if isinstance(each, nn.Linear)][-1]
    head.weight.data *= 100
    head.bias.data -= torch.from_numpy(segment_logits(model, segments, 8).mean(axis=0))


@pytest.fixture(scope="module", params=["hubert", "ast"])
def run(request, tmp_path_factory):
    """A folder after `dvc repro` and the tool, and what the tool printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(request.param))
        patch.setattr("sys.argv", ["robustness"])
        evaluated(request.param)
        lines: list[str] = []
        patch.setattr(tool, "log", lines.append)
        tool.main()
        yield lines


def test_the_clean_copies_give_the_bytes_of_the_predictions(run):
    classifier = tool._Classifier(results.predictions(), load().evaluate, "cpu")
    clean = classifier.predictions()
    assert clean.to_csv(index=False, lineterminator="\n").encode() == PREDICTIONS.read_bytes()
    assert clean["predicted"].nunique() > 1
    degraded = classifier.predictions(DEGRADATIONS["noise at 10 dB"])
    assert not np.array_equal(degraded.filter(like="p_"), clean.filter(like="p_"))
    assert degraded.equals(classifier.predictions(DEGRADATIONS["noise at 10 dB"]))


def test_the_figures_are_those_of_evaluate_and_compare(run):
    found, test = results.robustness(), json.loads(TEST.read_text())
    assert found["clean"]["accuracy"] == test["accuracy"]
    assert found["clean"]["interval"] == test["accuracy_by_group_interval"]
    assert (found["clips"], found["units"], found["confidence"]) == (12, 6, 0.95)
    assert list(found["degraded"]) == list(DEGRADATIONS)
    for each in found["degraded"].values():
        assert each["interval"]["low"] <= each["accuracy"] <= each["interval"]["high"]
        low, high = each["difference_interval"].values()
        assert low <= each["difference"] <= high
        assert each["gained"] - each["lost"] == pytest.approx(12 * each["difference"], abs=1e-4)
        assert each["accuracy"] - test["accuracy"] == pytest.approx(each["difference"], abs=1e-5)
        assert each["worse"] is False  # with six groups nothing is said


def test_the_table_has_a_line_for_each_and_so_has_the_card(run):
    head, clean, *rest = run[1:]
    assert clean.split()[0] == "clean"
    assert [line[: tool.WIDTHS[0]].strip() for line in rest[: len(DEGRADATIONS)]] == [*DEGRADATIONS]
    assert {len(line) for line in rest[: len(DEGRADATIONS)]} == {len(head)}
    assert len(head) <= 100
    section = tool.section(results.robustness())
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) == 3 + len(DEGRADATIONS)
    assert {row.count("|") for row in rows} == {8}


def test_predictions_of_another_run_are_refused(run):
    tested = results.predictions()
    tool.check(tested, tested)
    moved = tested.assign(p_low=tested["p_low"] + 2 * tool.SAME)
    renamed = tested.rename(columns={"p_low": "p_deep"})
    for clean in (moved, tested.assign(predicted="none"), renamed):
        with pytest.raises(PipelineError, match=r"such as c06: .* `dvc repro -f evaluate export`"):
            tool.check(clean, tested)


def test_a_missing_clip_and_a_missing_model_are_one_sentence(run, monkeypatch, tmp_path):
    with pytest.raises(PipelineError, match=r"x.wav is missing: type `dvc repro -f fetch_data`"):
        tool._read(Path("data/raw/x.wav"), 30.0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="dvc repro evaluate"):
        tool.measure(load(ROOT / "params.yaml").evaluate, "cpu")


def test_figures_of_another_model_are_stale(run):
    weights = EXPORT / "model.safetensors"
    content = weights.read_bytes()
    try:
        weights.write_bytes(content + b" ")
        with pytest.raises(PipelineError, match=r"another run: type `python -m tools.robustness`"):
            results.robustness()
    finally:
        weights.write_bytes(content)


def test_without_figures_the_tool_is_named(in_tmp):
    with pytest.raises(PipelineError, match=r"json does not exist yet: .*`python -m tools.rob"):
        results.robustness()
    ROBUSTNESS.parent.mkdir()
    ROBUSTNESS.write_text("{")
    with pytest.raises(PipelineError, match=r"is unreadable .*`python -m tools.robustness`"):
        results.robustness()


def test_nothing_is_an_output_of_the_pipeline(repo, tmp_path):
    clone = repo.copy(tmp_path / "repo")
    said = clone.run("python", "-m", "tools.baseline").stdout
    clone.run("python", "-m", "tools.robustness")
    found, test = (
        json.loads((clone.path / f"metrics/{name}.json").read_text())
        for name in ("robustness", "test")
    )
    assert found["clean"]["accuracy"] == test["accuracy"]
    assert clone.changed() == []
    assert clone.run("python", "-m", "tools.baseline").stdout == said
    clone.run("python", "-m", "tools.pictures", "pictures")
    assert (clone.path / "pictures/robustness.png").exists()
