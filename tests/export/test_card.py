"""The model card: metadata as the Hub reads it, tables as they were measured."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.export import card
from tests.support.loopback_publish import LoopbackPublish, problems_of
from tests.support.samples import ROOT
from tools import publish

INTERVAL = {"low": 0.745, "high": 0.891}
NONE = {"low": None, "high": None}
FACTS = {
    "data": {
        "corpus": {
            "name": "gtzan",
            "title": "GTZAN genre collection",
            "licence": "none is stated; commercial music",
            "repo": "marsyas/gtzan",
            "revision": "d2146561ecc7df707d9e6b8318885fe6a39668a2",
        },
        "clips": 999,
        "labels": {"blues": 100, "rock|pop": 899},
        "seconds": 29970.0,
        "sample_rates": {"22050": 999},
        "groups": 0,
        "skipped": [{"file": "jazz.00054.wav", "reason": "cannot be decoded"}],
    },
    "labels": {
        "blues": {
            "clips": 10,
            "precision": 0.75,
            "recall": 0.9,
            "recall_interval": {"low": 0.596, "high": 0.982},
            "f1": 0.818182,
        },
        "rock|pop": {
            "clips": 0,
            "precision": None,
            "recall": None,
            "recall_interval": NONE,
            "f1": None,
        },
    },
    "split": {
        "protocol": "course",
        "fold": 0,
        "clips": {"train": 800, "validation": 99, "test": 100},
        "known_groups": {"train": 0, "validation": 0, "test": 0},
        "smallest_difference": None,
        "leaks": {"test": {"groups": 79, "titles": 19, "identical": 0, "near_identical": 2}},
    },
    "test": {
        "clips": 100,
        "accuracy": 0.83,
        "accuracy_interval": INTERVAL,
        "accuracy_by_group_interval": NONE,
        "macro_f1": 0.821234,
        "macro_f1_interval": INTERVAL,
        "loss": 0.612345,
        "loss_interval": INTERVAL,
        "calibration_error": None,
        "temperature": 1.2345,
        "calibration_error_after_temperature": None,
    },
    "validation": {
        "accuracy": 0.8,
        "loss": 0.7,
        "clips": 99,
        "epoch": 2,
        "device": "NVIDIA H100",
        "precision": "bf16",
    },
    "source": {
        "id": "ntu-spml/distilhubert",
        "revision": "fa87d96265d6b7af66e112faff6ff44df419cec9",
        "weights": {"model.safetensors": "0" * 64},
    },
    "extractor": {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "sampling_rate": 16000,
        "segment_seconds": 30.0,
    },
}
PARAMS = load(ROOT / "params.yaml")
CURVES = [
    {"value": 1, "training_loss": 2.1, "validation_loss": 1.9, "accuracy": 0.4},
    {"value": 2, "training_loss": 1.7, "validation_loss": 1.2, "accuracy": 0.8},
]


@pytest.fixture
def render(in_tmp):
    """Render the card of FACTS, with changes."""

    def of(change=lambda facts: None, params=PARAMS, curves=CURVES) -> ModelCard:
        facts = copy.deepcopy(FACTS)
        change(facts)
        text = card.text(params, card.Facts(**facts, curves=curves))
        (in_tmp / "README.md").write_text(text)
        return ModelCard.load(in_tmp / "README.md")

    return of


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of a section's table, by their first cell."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line[:1] == "|"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[2:]}


def test_the_metadata_has_what_the_course_leaderboard_reads(render):
    data = render().data
    result = data.eval_results[0]
    assert result.dataset_type == "marsyas/gtzan"
    assert (result.task_type, result.metric_type) == ("audio-classification", "accuracy")
    assert data.datasets == ["marsyas/gtzan"]
    assert data.base_model == data.get("finetuned_from") == "ntu-spml/distilhubert"
    assert data.model_name == "distilhubert-finetuned-gtzan"
    assert "audio-classification" in data.tags
    assert (data.library_name, data.pipeline_tag) == ("transformers", "audio-classification")


def test_the_metadata_holds_the_measured_values(render):
    values = {result.metric_type: result.metric_value for result in render().data.eval_results}
    test = FACTS["test"]
    assert values == {"accuracy": test["accuracy"], "f1": test["macro_f1"]}


def test_the_metadata_survives_a_round_trip_through_huggingface_hub(render):
    data = render().data
    index = eval_results_to_model_index(data.model_name, data.eval_results)
    name, results = model_index_to_eval_results(index)
    assert (name, results) == (data.model_name, data.eval_results)
    assert yaml.safe_load(data.to_yaml()) == data.to_dict()


def test_the_hub_accepts_the_card(render):
    """In a process of its own: HF_ENDPOINT is read when huggingface_hub is imported."""
    render()
    hub = LoopbackPublish()
    code = "from huggingface_hub import ModelCard; ModelCard.load('README.md').validate()"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    try:
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    finally:
        hub.close()
    assert [problems_of(card) for card in hub.cards] == [[]]


@pytest.mark.parametrize(
    ("stated", "weights", "identifier"),
    [
        ("CC0-1.0", None, "cc0-1.0"),
        ("CC BY-NC 3.0 (its subset, CC BY 3.0); LICENSE names each author", None, "cc-by-nc-3.0"),
        ("CC BY-NC 3.0; CREDITS.txt names each author", None, "cc-by-nc-3.0"),
        ("CC BY 4.0", {"model.safetensors": "0" * 64}, None),  # they have a licence of their own
        ("none is stated; commercial music", None, None),
        (None, None, None),
    ],
)
def test_the_licence_is_one_of_the_hubs_where_the_corpus_alone_decides(
    render, stated, weights, identifier
):
    def licensed(facts: dict) -> None:
        facts["data"]["corpus"]["licence"] = stated
        facts["source"]["weights"] = weights

    assert render(licensed).data.license == identifier


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("accuracy", "the one with the best validation accuracy (ties go to the lower loss)."),
        ("macro_f1", "the one with the best validation macro F1 (ties go to the lower loss)."),
        ("loss", "the one with the lowest validation loss."),
    ],
)
def test_the_figure_that_chose_the_epoch_is_named(render, figure, words):
    train = PARAMS.train.model_copy(update={"select_by": figure})
    text = render(params=PARAMS.model_copy(update={"train": train})).text
    assert f"Epoch 2 was kept: {words}" in text


def test_auto_is_reported_as_what_it_was(render):
    text = render().text
    assert "\n- precision: bf16\n" in text and "\n- device: NVIDIA H100\n" in text
    assert ": auto" not in text


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.05, 0.0621, "calibration error of 0.0621, which is worse: use the logits as they are."),
        (0.0621, 0.05, "calibration error of 0.0500 instead."),
    ],
)
def test_what_a_temperature_does_is_reported(render, before, after, words):
    def calibrated(facts: dict) -> None:
        facts["test"] |= {
            "calibration_error": before,
            "calibration_error_after_temperature": after,
        }

    assert words in " ".join(render(calibrated).text.split())
    assert "temperature" not in render().text  # there is nothing to compare


def test_the_published_card_has_the_picture_and_the_commit(render):
    card = render().content
    sent = publish.published(card, ("https://example.org/ada/genrepro", "0123abc"))
    assert "Made with [genrepro](https://example.org/ada/genrepro) at `0123abc`, a repro" in sent
    assert "## By label\n\n![Confusion on the test clips](confusion.png)\n\n| label |" in sent
    assert "](confusion.png)" in publish.published(card, None)
    assert "confusion.png" not in card


def test_a_card_is_published_only_with_the_figures_of_its_run(render, in_tmp):
    card = render().content
    (in_tmp / "metrics").mkdir()
    (in_tmp / "metrics/test.json").write_text(json.dumps(FACTS["test"]))
    publish.check_run(card)
    (in_tmp / "metrics/test.json").write_text(json.dumps(FACTS["test"] | {"loss": 0.7}))
    with pytest.raises(PipelineError, match="different runs"):
        publish.check_run(card)


def test_the_tables_hold_the_measured_values(render):
    text = render().text
    test, rows = FACTS["test"], table(text, "Result")
    for name, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1")):
        assert float(rows[name][0]) == pytest.approx(test[key], abs=5e-5)
        assert rows[name][1] == "0.745 to 0.891"
    assert rows["accuracy, by group"] == ["0.8300", "no interval"]
    labels = table(text, "By label")
    assert labels["blues"] == ["10", "0.750", "0.900", "0.596 to 0.982", "0.818"]
    assert labels["rock\\|pop"] == ["0", "–", "–", "no interval", "–"]
    assert table(text, "Training") == {
        "1": ["2.1000", "1.9000", "0.4000"],
        "2": ["1.7000", "1.2000", "0.8000"],
    }


def test_undefined_values_are_dashes(render):
    text = re.sub(r"```python.*?```", "", render().content, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|inf|null|True|False)\b", text)
    assert "expected calibration error | – | – |" in text


def test_leaks_licence_and_limits_are_reported(render):
    text = render().text
    assert "- 79 test clips share their artist" in text
    assert "- 2 test clips are the same recording" in text
    assert "none is stated; commercial music" in text
    assert "1 files of the corpus could not be used" in text
    assert "It is not known who made each clip" in text
    assert "Clips are missing" not in text


def test_labels_that_lost_clips_and_clips_cut_short_are_limits(render):
    def lossy(facts: dict) -> None:
        facts["data"]["warnings"] = ["label 'rock|pop': 900 of 1000 files were skipped"]
        facts["data"]["cut_short"] = [{"clip": "a", "reason": "its end is missing"}] * 2

    text = render(lossy).text
    assert "- Clips are missing: label 'rock\\|pop': 900 of 1000 files were skipped.\n" in text
    assert "- 2 clips are incomplete" in text


def test_corrected_labels_are_a_limit(render):
    assert "data.corrections" not in render().text

    def corrected(facts: dict) -> None:
        facts["data"]["corrections"] = {"relabelled": 3, "left_out": 2, "not_in_the_corpus": []}

    text = " ".join(render(corrected).text.split())
    assert "data.corrections changed 3 of the corpus' labels and left out 2 clips" in text


def test_a_local_backbone_reveals_no_path_and_names_no_base_model(render):
    def local(facts: dict) -> None:
        facts["source"] = {
            "id": "/home/ada/models/whisper-tiny-en",
            "revision": None,
            "weights": None,
        }
        facts["data"]["corpus"] |= {"repo": None, "revision": None, "licence": None}

    made = render(local)
    assert made.data.base_model is None
    assert made.data.datasets is None
    assert made.data.eval_results is None  # each would have to name a dataset of the Hub
    assert made.data.model_name == "whisper-tiny-en-trained-gtzan"
    assert "/home/ada" not in made.content
    assert "unknown: find out" in made.text
    assert "- learning_rate: 0.001" in made.text
    assert "scratch_learning_rate" not in made.text


def test_a_probe_reports_its_penalty_instead_of_epochs_and_rates(render):
    def probed(facts: dict) -> None:
        chosen = facts["validation"]
        del chosen["epoch"]
        chosen["penalty"] = 31.622776601683793

    train = PARAMS.train.model_copy(update={"probe": True, "freeze": "backbone", "layers": 1})
    tried = [CURVES[0] | {"value": 100}, CURVES[1] | {"value": 31.6228}]
    text = render(probed, PARAMS.model_copy(update={"train": train}), tried).text
    assert table(text, "Training") == {
        "100": ["2.1000", "1.9000", "0.4000"],
        "31.6228": ["1.7000", "1.2000", "0.8000"],
    }
    assert "The L2 penalty was chosen on" in text and "- layers: 1" in text
    assert "learning_rate" not in text and "Epoch" not in text
