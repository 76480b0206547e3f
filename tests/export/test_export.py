"""The exported folder, loaded with nothing but transformers and an audio reader."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from tests.support.pipeline_repo import Clone

# A user's program, run outside of the project; it needs nothing but these imports.
PROGRAM = """
import csv, json, sys
import numpy, soundfile, torch
from transformers import pipeline

folder, predictions = sys.argv[1:]
classifier = pipeline("audio-classification", model=folder)
scores = {}
for row in csv.DictReader(open(predictions, encoding="utf-8")):
    samples, rate = soundfile.read(row["path"], dtype="float32")
    assert rate == classifier.feature_extractor.sampling_rate and samples.ndim == 1
    found = classifier(samples, top_k=None)
    scores[row["clip"]] = {each["label"]: each["score"] for each in found}
assert not {"datasets", "dvc", "genrepro", "pandas"} & set(sys.modules)
print(json.dumps(scores))
"""


@pytest.fixture(scope="module")
def scores(repo) -> dict[str, dict[str, float]]:
    """clip -> label -> probability, from transformers' pipeline on the audio files."""
    words = ["-I", "-c", PROGRAM, "export", "data/predictions.csv"]
    return json.loads(repo.run(sys.executable, *words).stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_transformers_pipeline_agrees_with_evaluate_on_every_test_clip(repo, scores):
    with (repo.path / "data/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(scores) == {row["clip"] for row in rows}
    assert len(rows) >= 12
    for row in rows:
        found = scores[row["clip"]]
        assert max(found, key=found.get) == row["predicted"]
        for label, probability in found.items():
            # evaluate reads the features in half precision
            assert probability == pytest.approx(float(row[f"p_{label}"]), abs=5e-3)


def test_its_accuracy_is_that_of_metrics_test_json(repo, scores):
    clips = (repo.path / "data/clips.csv").read_text().splitlines()[1:]
    true = {line.split(",")[0]: line.split(",")[2] for line in clips}
    correct = sum(max(found, key=found.get) == true[clip] for clip, found in scores.items())
    test = json.loads((repo.path / "metrics/test.json").read_text())
    assert round(correct / len(scores), 6) == test["accuracy"]


@pytest.mark.slow
def test_the_example_on_the_card_works(repo, tmp_path):
    """The code block of the card, with the folder and the file filled in."""
    card = (repo.path / "export/README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    clip = next((repo.path / "data/raw/low").iterdir())
    code = code.replace("path/to/this/folder", str(repo.path / "export"))
    code = code.replace("song.mp3", str(clip))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()][:1] == ["low"]
    assert len(done.stdout.splitlines()) == 3


def test_the_folder_contains_the_model_and_nothing_else(repo):
    found = {path.relative_to(repo.path / "export").as_posix() for path in files(repo)}
    assert found == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    config = json.loads((repo.path / "export/config.json").read_text())
    assert sorted(config["label2id"]) == ["high", "low", "middle"]
    for path in files(repo):
        if path.suffix != ".safetensors":
            assert str(repo.path) not in path.read_text()


def files(repo: Clone):
    return [path for path in (repo.path / "export").rglob("*") if path.is_file()]
