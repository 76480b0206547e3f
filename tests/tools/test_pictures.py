"""Pictures of a run: the same bytes each time, and none without results."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer

from genrepro.core.errors import PipelineError
from tests.support.samples import ROOT
from tools import figures, results
from tools import pictures as tool

LABELS = ["hum", "NA", "007"]


def write_results(folder):
    """Write the outputs of dvc repro: three labels, twelve test clips, two mistakes."""
    rng = np.random.default_rng(0)
    true = [LABELS[i % 3] for i in range(12)]
    predicted = [*true[:10], "hum", "NA"]
    p = {f"p_{label}": [0.8 if label == h else 0.1 for h in predicted] for label in LABELS}
    clips = [f"c{i:02d}" for i in range(12)]
    path = [f"data/raw/{label}/{clip}.wav" for label, clip in zip(true, clips)]
    facts = {"clip": clips, "path": path, "label": true}
    unknown = {"sha256": "", "group": "", "title": "", "part": ""}
    tables = {
        "data/clips.csv": facts | {"seconds": 1.0} | unknown,
        "data/split.csv": {"clip": clips[:11], "label": true[:11], "split": "test"},
        "data/predictions.csv": facts | {"group": "band", "predicted": predicted} | p,
        "metrics/plots/reliability.csv": {
            "confidence": [0.4, 0.9, 0.8], "accuracy": [0.5, 0.9, 0.8], "clips": [2, 10, 12],
            "probabilities": ["as trained", "as trained", "after temperature"],
        },
    }  # fmt: skip
    for part, name in (("train", "loss"), ("validation", "loss"), ("validation", "accuracy")):
        values = rng.random(3)
        tables[f"metrics/train/plots/metrics/{part}/{name}.tsv"] = {"step": [1, 2, 3], name: values}
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        separator = "\t" if name.endswith("tsv") else ","
        pd.DataFrame(table).to_csv(folder / name, index=False, sep=separator)
    interval = {"low": 0.5, "high": 0.95}
    names = ("accuracy", "macro_f1", "loss")
    test = {
        "clips": 12,
        "units": 1,
        "calibration_error": 0.1,
        "accuracy_by_group_interval": {"low": None, "high": None},
    }
    test |= dict.fromkeys(names, 0.833333) | {f"{name}_interval": interval for name in names}
    each = {"clips": 4, "precision": 1.0, "recall": 0.75, "recall_interval": interval, "f1": 0.9}
    unseen = {"clips": 0, "precision": None, "recall": None, "recall_interval": interval}
    texts = {
        "metrics/test.json": test,
        "metrics/validation.json": {"accuracy": 0.9, "loss": 0.1, "clips": 12, "epoch": 2},
        "metrics/labels.json": dict.fromkeys(LABELS, each) | {"unseen": unseen},
        "metrics/data.json": {"corpus": {"title": "Hums"}, "clips": 12, "labels": {"hum": 4}},
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content))


def test_the_same_run_gives_the_same_small_pictures(in_tmp):
    write_results(in_tmp)
    first = {path.name: path.read_bytes() for path in tool.draw(in_tmp / "a")}
    second = {path.name: path.read_bytes() for path in tool.draw(in_tmp / "b")}
    assert first == second
    assert sorted(first) == ["confusion.png", "curves.png", "recall.png", "reliability.png"]
    assert all(content.startswith(b"\x89PNG") for content in first.values())
    assert max(map(len, first.values())) < 150_000


def test_labels_that_look_like_numbers_or_missing_values_stay_text(in_tmp):
    write_results(in_tmp)
    assert set(results.predictions()["label"]) == set(LABELS)
    assert results.clips()["split"].tolist() == ["test"] * 11 + [""]


def test_without_a_run_nothing_is_written(in_tmp):
    with pytest.raises(PipelineError, match=r"dvc repro train"):
        tool.draw(in_tmp / "a")
    write_results(in_tmp)
    results.LABELS.unlink()
    with pytest.raises(PipelineError, match=r"labels.json does not exist yet: .* evaluate`"):
        tool.draw(in_tmp / "a")
    assert not (in_tmp / "a").exists()


@pytest.mark.parametrize("content", ["", "{", "\xff"])
def test_a_damaged_result_is_named(in_tmp, content):
    write_results(in_tmp)
    results.TEST.write_text(content, encoding="latin-1")
    results.PREDICTIONS.write_text(content.replace("{", '"'), encoding="latin-1")
    with pytest.raises(PipelineError, match=r"test.json is unreadable .* `dvc repro -f evaluate`"):
        results.test()
    with pytest.raises(PipelineError, match=r"predictions.csv is unreadable"):
        results.predictions()


@pytest.mark.parametrize("seconds", [0.1, 1.0, 700.0])
def test_sounds_of_any_length_can_be_drawn(seconds, tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 8000)).astype(np.float32)
    figures.save(figures.sound(samples, 8000), tmp_path / "sound.png")
    power, bands = figures._spectrogram(samples, 8000)
    assert power.shape[1] <= 2 * figures.COLUMNS
    assert len(power) == len(bands)


def test_a_tone_has_its_power_at_its_frequency():
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    power, bands = figures._spectrogram(tone, 8000)
    assert bands[power.mean(axis=1).argmax()] == pytest.approx(1000, rel=0.03)


PLOTS = [
    next(iter(each.items())) for each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
]


@pytest.mark.parametrize(("title", "plot"), PLOTS, ids=[title for title, _ in PLOTS])
def test_dvc_fills_each_template(title, plot, in_tmp):
    write_results(in_tmp)
    labels = {"label": "hum", "predicted": "NA", "recall": 0.5, "low": 0.1, "high": 0.9, "clips": 4}
    for path, column in plot["y"].items():
        rows = [labels]
        if Path(path).exists():
            rows = pd.read_csv(path, sep=None, engine="python").to_dict("records")
        rows = [row | {"rev": rev} for rev in ("one", "two") for row in rows]
        axes = {"x": plot["x"], "y": column, "title": title, "template": plot["template"]}
        filled = VegaRenderer(rows, title, template_dir=ROOT / ".dvc/plots", **axes)
        text = json.dumps(filled.get_filled_template())
        assert "<DVC_METRIC" not in text and title in text
        assert {"one", "two"} <= {row["rev"] for row in json.loads(text)["data"]["values"]}
