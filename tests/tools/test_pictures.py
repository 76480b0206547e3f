"""Pictures of a run: the same bytes each time, and none without results."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import vl_convert
import yaml
from dvc.render.match import match_defs_renderers
from PIL import Image

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
            "confidence": [0.4, 0.9, 0.8], "accuracy": [0.5, 0.9, 0.8],
            "low": [0.1, 0.6, 0.5], "high": [0.9, 1, 0.95], "clips": [2, 10, 12],
            "probabilities": ["as trained", "as trained", "after temperature"],
        },
        "metrics/train/curves.csv": {
            "by": "epoch", "value": [1, 2, 3], "training_loss": rng.random(3),
            "validation_loss": rng.random(3), "accuracy": [0.5, 0.9, 0.8], "kept": [0, 1, 0],
        },
        "metrics/plots/accuracy.csv": {
            "accuracy": [0.833333], "low": [0.5], "high": [0.95], "clips": [12], "confidence": 0.95,
        },
        "metrics/plots/confusion.csv": {"label": true, "predicted": predicted},
        "metrics/plots/recall.csv": {
            "label": LABELS, "recall": [0.75, 1, 1], "low": 0.5, "high": 0.95, "clips": 4,
        },
    }  # fmt: skip
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_csv(folder / name, index=False)
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


def test_robustness_is_drawn_if_it_was_measured_on_this_run(in_tmp):
    write_results(in_tmp)
    interval = {"low": 0.5, "high": 0.9}
    noise = {"accuracy": 0.7, "interval": interval, "difference": -0.1, "worse": True}
    few = noise | {"interval": {"low": None, "high": None}}
    found = {"of": results.measured_on(), "clean": few, "degraded": {"noise": noise, "few": few}}
    results.ROBUSTNESS.write_text(json.dumps(found))
    assert in_tmp / "a/robustness.png" in tool.draw(in_tmp / "a")
    results.ROBUSTNESS.write_text(json.dumps(found | {"of": {}}))
    with pytest.raises(PipelineError, match="another run"):
        tool.draw(in_tmp / "b")


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
def test_sounds_of_any_length_can_be_drawn(seconds):
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 8000)).astype(np.float32)
    picture = io.BytesIO()
    assert figures.spectrogram(samples, 8000, picture)
    assert Image.open(picture).width <= 2 * figures.COLUMNS
    power, bands = figures._spectrogram(samples, 8000)
    assert power.shape[1] <= 2 * figures.COLUMNS
    assert len(power) == len(bands)


def test_a_tone_has_its_power_at_its_frequency():
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    power, bands = figures._spectrogram(tone, 8000)
    assert bands[power.mean(axis=1).argmax()] == pytest.approx(1000, rel=0.03)


PENALTIES = {
    "by": "penalty", "value": [100, 31.6228, 10], "training_loss": [0.5, 0.3, 0.1],
    "validation_loss": [0.6, 0.5, 0.7], "accuracy": [0.7, 0.8, 0.7], "kept": [0, 1, 0],
}  # fmt: skip


def test_a_probe_is_drawn_over_its_penalties():
    axes = figures.curves(pd.DataFrame(PENALTIES)).axes
    assert {each.get_xlabel() for each in axes} == {"L2 penalty"}
    assert {each.get_xscale() for each in axes} == {"log"}
    assert [text.get_text() for text in axes[1].texts] == ["kept: penalty 31.6, 0.800"]


DOCS = sorted((ROOT / "docs/pictures").glob("*.png"))


@pytest.mark.parametrize("path", DOCS, ids=[path.stem for path in DOCS])
def test_the_pictures_in_the_docs_are_of_the_run_in_metrics(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with Image.open(path) as picture:
        shown = picture.info.get(tool.KEY)
    assert shown == tool.shown_figures(), (
        f"{path.name} is not of the run in metrics/: type `make pictures`, and commit it"
    )


PLOTS = [
    next(iter(each.items())) for each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
]


def filled(title: str, plot: dict, runs: dict[str, Path]) -> dict:
    """What `dvc plots diff` writes into its page for one plot of some runs' folders."""
    source = {path: {"data": {}} for path in plot["y"]}
    data = {}
    for name, folder in runs.items():
        sources = {path: {"data": list(csv.DictReader((folder / path).open()))} for path in source}
        definition = {"dvc.yaml": {"data": {title: plot}}}
        data[name] = {"definitions": {"data": definition}, "sources": {"data": sources}}
    (found,) = match_defs_renderers(data, templates_dir=ROOT / ".dvc/plots")
    assert not found.source_errors and not found.definition_errors
    return found.renderer.get_filled_template()


@pytest.mark.parametrize(("title", "plot"), PLOTS, ids=[title for title, _ in PLOTS])
def test_dvc_fills_each_template_and_vega_draws_it_in_plain_words(title, plot, tmp_path):
    write_results(tmp_path / "one")
    write_results(tmp_path / "two")
    pd.DataFrame(PENALTIES).to_csv(tmp_path / "two/metrics/train/curves.csv", index=False)
    for names in (["one"], ["one", "two"]):
        spec = filled(title, plot, {name: tmp_path / name for name in names})
        assert "<DVC_METRIC" not in json.dumps(spec)
        drawn = vl_convert.vegalite_to_svg(spec)
        words = set(re.findall(r"<text[^>]*>([^<]*)<", drawn))
        assert title in words
        assert not [word for word in words if re.search(r"[/_]|sv$|NaN|undefined|null", word)]
        if plot["template"] == "curves":
            assert {"kept", "epoch"} <= words and ("L2 penalty" in words) == ("two" in names)
            assert title != "Loss" or "training" in words


def test_the_page_of_plots_needs_only_the_script_that_make_install_writes():
    page = (ROOT / ".dvc/plots/page.html").read_text()
    assert not re.search(r"https?:", page)
    (script,) = re.findall(r'src="\.\./([^"]+)"', page)
    assert f"> {script}\n" in (ROOT / "Makefile").read_text()
