"""The model card: what was measured and how, in the words and the metadata that the Hub reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from genrepro.params import Params

METRICS = Path("metrics")
CURVES = METRICS / "train/plots/metrics"
SOURCE = Path("models/backbone/source.json")


def text(params: Params) -> str:
    """The card of the model that `evaluate` measured, as README.md of its folder.

    Everything in it is read from metrics/ and params.yaml; nothing is typed by hand.
    """
    names = ("data", "labels", "split", "test", "validation")
    facts = {name: _read(METRICS / f"{name}.json") for name in names}
    source = _read(SOURCE)
    sections = [
        _summary(facts, source),
        _use(),
        _result(params, facts),
        _labels_table(facts["labels"]),
        _split(facts["split"]),
        _training(params, facts["validation"]),
        _limits(facts),
    ]
    metadata = _metadata(facts, source).to_yaml()
    return str(ModelCard("\n\n".join([f"---\n{metadata}\n---", *sections]) + "\n"))


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def model_name(facts: dict, source: dict) -> str:
    """As the course names its models: distilhubert-finetuned-gtzan."""
    backbone, corpus = (
        name.rstrip("/").rsplit("/", 1)[-1]
        for name in (source["id"], facts["data"]["corpus"]["name"])
    )
    return f"{backbone}-finetuned-{corpus}"


def _metadata(facts: dict, source: dict) -> ModelCardData:
    corpus, test = facts["data"]["corpus"], facts["test"]
    results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio Classification",
            dataset_type=corpus["repo"] or corpus["name"],
            dataset_name=corpus["title"] or corpus["name"],
            dataset_revision=corpus["revision"],
            dataset_split="test",
            metric_type=kind,
            metric_name=name,
            metric_value=test[key],
        )
        for kind, name, key in (
            ("accuracy", "Accuracy", "accuracy"),
            ("f1", "Macro F1", "macro_f1"),
        )
    ]
    return ModelCardData(
        model_name=model_name(facts, source),
        base_model=source["id"] if source["revision"] else None,
        datasets=[corpus["repo"]] if corpus["repo"] else None,
        library_name="transformers",
        pipeline_tag="audio-classification",
        metrics=["accuracy", "f1"],
        tags=["audio-classification", "generated_from_trainer", "genrepro"],
        eval_results=results,
    )


def _summary(facts: dict, source: dict) -> str:
    data, test = facts["data"], facts["test"]
    corpus = data["corpus"]
    at = f" at revision `{corpus['revision']}`" if corpus["revision"] else ""
    of = f" at revision `{source['revision']}`" if source["revision"] else ""
    title = corpus["title"] or corpus["name"]
    return f"""# {model_name(facts, source)}

Classifies a sound as one of {len(data["labels"])} labels: {", ".join(data["labels"])}.

| | |
|---|---|
| test accuracy | **{test["accuracy"]:.3f}**, {_interval(test["accuracy_interval"])} |
| backbone | `{source["id"]}`{of} |
| corpus | {title}{at}: {data["clips"]} clips, {data["seconds"] / 3600:.1f} hours |
| licence of the corpus | {corpus["licence"] or "not stated: find out before you use the model"} |

Made with genrepro, a reproducible DVC pipeline after unit 4 of the Hugging Face audio course."""


def _use() -> str:
    return """## How to use it

```python
import soundfile
from transformers import pipeline

classifier = pipeline("audio-classification", model="path/to/this/folder")
samples, rate = soundfile.read("clip.wav", dtype="float32")  # mono
assert rate == classifier.feature_extractor.sampling_rate     # else resample first
print(classifier(samples, top_k=3))
```

`onnx/model.onnx` takes the same features and needs no PyTorch; `onnx/model_int8.onnx` has 8-bit
matrix products."""


def _result(params: Params, facts: dict) -> str:
    test = facts["test"]
    rows = [
        ("accuracy", test["accuracy"], test["accuracy_interval"]),
        ("accuracy, resampled by group", test["accuracy"], test["accuracy_by_group_interval"]),
        ("macro F1", test["macro_f1"], test["macro_f1_interval"]),
        ("loss (cross-entropy)", test["loss"], test["loss_interval"]),
        (
            "expected calibration error",
            test["calibration_error"],
            test["calibration_error_interval"],
        ),
    ]
    table = "\n".join(f"| {name} | {value:.4f} | {_interval(span)} |" for name, value, span in rows)
    return f"""## Result

On {test["clips"]} test clips that no choice was made on; the epoch was chosen on
{facts["validation"]["clips"]} validation clips. Intervals are at {params.evaluate.confidence:.0%}.

| measure | value | interval |
|---|---|---|
{table}

Divided by a temperature of {test["temperature"]:.3f}, fitted on validation, the logits have a
calibration error of {test["calibration_error_after_temperature"]:.4f}."""


def _interval(interval: dict) -> str:
    if interval["low"] is None:
        return "no interval"
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


def _labels_table(labels: dict) -> str:
    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    rows = "\n".join(
        f"| {label} | {found['clips']} | {cell(found['precision'])} | {cell(found['recall'])} "
        f"| {_interval(found['recall_interval'])} | {cell(found['f1'])} |"
        for label, found in labels.items()
    )
    return f"""## By label

| label | clips | precision | recall | its interval | F1 |
|---|---|---|---|---|---|
{rows}"""


def _split(split: dict) -> str:
    parts = ", ".join(f"{count} {part}" for part, count in split["clips"].items())
    leaks = {kind: count for kind, count in split["leaks"]["test"].items() if count}
    said = {
        "groups": "share their artist, band or speaker with a clip that was trained or chosen on",
        "titles": "are of a piece that was trained or chosen on",
        "identical": "are byte for byte such a clip",
        "near_identical": "hold the same recording as such a clip",
    }
    lines = [f"- {count} test clips {said[kind]}" for kind, count in leaks.items()]
    audit = "\n".join(lines) if lines else "The audit found no leak from training into the test."
    return f"""## Split

Protocol `{split["protocol"]}`: {parts} clips. {sum(split["known_groups"].values())} clips have a
known group.

{audit}

With this test part, two models must differ by about {split["smallest_difference"] * 100:.1f} points
of accuracy before a comparison is likely to show it."""


def _limits(facts: dict) -> str:
    aside = facts["data"]["set_aside"]
    return f"""## Limits

- The accuracy is that of clips like the corpus': other sources, mixes and times will differ.
- Every input gets one of the {len(facts["data"]["labels"])} labels, also what is none of them.
- {len(aside)} files of the corpus could not be used and were set aside."""


def _training(params: Params, validation: dict) -> str:
    train = params.train
    settings = "\n".join(f"- {key}: {value}" for key, value in train.model_dump().items())
    losses = [_curve("train/loss"), _curve("validation/loss"), _curve("validation/accuracy")]
    rows = "\n".join(
        f"| {epoch} | {losses[0].get(epoch, float('nan')):.4f} | {losses[1][epoch]:.4f} "
        f"| {losses[2][epoch]:.4f} |"
        for epoch in losses[1]
    )
    return f"""## Training

- seed: {params.seed}
{settings}
- clips cut at {params.encode.max_seconds:g} s, segments of at most
  {params.encode.segment_seconds:g} s

| epoch | training loss | validation loss | validation accuracy |
|---|---|---|---|
{rows}

Epoch {validation["epoch"]} was kept: the best validation accuracy, then the lowest loss."""


def _curve(name: str) -> dict[int, float]:
    path = CURVES / f"{name}.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    key = name.rsplit("/", 1)[-1]
    return {int(row["step"]): float(row[key]) for row in rows}
