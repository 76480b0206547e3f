"""The model card: what was measured and how, in the words and the metadata that the Hub reads."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from genrepro.core.params import Params

KEPT = {"best": "the best validation accuracy, then the lowest loss", "last": "the last one"}
STEPS = "AdamW, the learning rate rising over the warm-up and then falling linearly to 0."
PROBE = """A linear probe: the head is the logistic regression on what the frozen backbone gives,
averaged over time. It was found exactly; there are no epochs."""
FRAMEWORKS = ("transformers", "torch", "datasets")


@dataclass(frozen=True)
class Facts:
    """What the stages recorded: the JSON files of metrics/, source.json, and the extractor's."""

    data: dict
    split: dict
    validation: dict
    test: dict
    labels: dict
    source: dict
    extractor: dict
    curves: list[tuple[float, float, float]]  # training loss, validation loss, accuracy by epoch


def text(params: Params, facts: Facts) -> str:
    """The card of the model that `evaluate` measured, as README.md of its folder.

    Everything in it comes from the facts and params.yaml; nothing is typed by hand.
    """
    sections = [
        _summary(facts),
        _use(params, facts.extractor),
        _result(params, facts),
        _labels_table(facts.labels),
        _split(facts.split),
        _training(params, facts),
        _limits(facts),
    ]
    metadata = _metadata(facts).to_yaml()
    return str(ModelCard("\n\n".join([f"---\n{metadata}\n---", *sections]) + "\n"))


def model_name(facts: Facts) -> str:
    """As the course names its models: distilhubert-finetuned-gtzan."""
    done = "finetuned" if facts.source["weights"] else "trained"
    return f"{_last(facts.source['id'])}-{done}-{_last(facts.data['corpus']['name'])}"


def _last(name: str) -> str:
    """A Hub id or a folder without what comes before: a card tells nothing of a disk's folders."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def _metadata(facts: Facts) -> ModelCardData:
    corpus, test, source = facts.data["corpus"], facts.test, facts.source
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
            metric_args=args,
        )
        for kind, name, key, args in (
            ("accuracy", "Accuracy", "accuracy", None),
            ("f1", "Macro F1", "macro_f1", {"average": "macro"}),
        )
    ]
    on_hub = source["id"] if source["revision"] else None
    return ModelCardData(
        model_name=model_name(facts),
        base_model=on_hub,
        base_model_relation="finetune" if on_hub else None,
        finetuned_from=on_hub,  # the course's word for it; the Hub reads base_model
        datasets=[corpus["repo"]] if corpus["repo"] else None,
        library_name="transformers",
        pipeline_tag="audio-classification",
        metrics=["accuracy", "f1"],
        tags=["audio-classification", "generated_from_trainer", "genrepro"],
        eval_results=results,
    )


def _summary(facts: Facts) -> str:
    data, test, source = facts.data, facts.test, facts.source
    corpus, labels = data["corpus"], [_cell(label) for label in data["labels"]]
    at = f" at revision `{corpus['revision']}`" if corpus["revision"] else ""
    of = f" at revision `{source['revision']}`" if source["revision"] else ""
    backbone = f"`{source['id'] if source['revision'] else _last(source['id'])}`{of}"
    where = f" ([{corpus['repo']}](https://huggingface.co/datasets/{corpus['repo']}){at})"
    title = _cell(corpus["title"] or corpus["name"]) + (where if corpus["repo"] else "")
    hours = f"{data['seconds'] / 3600:.1f} hours"
    length = hours if data["seconds"] >= 3600 else f"{data['seconds'] / 60:.1f} minutes"
    licence = corpus["licence"] or "not known: find out before you use the model"
    return f"""# {model_name(facts)}

Classifies a sound as one of {len(labels)} labels: {", ".join(labels)}.

| | |
|---|---|
| test accuracy | **{test["accuracy"]:.3f}**, {_interval(test["accuracy_interval"])} |
| backbone | {backbone}, {"pretrained" if source["weights"] else "trained from scratch"} |
| corpus | {title}: {data["clips"]} clips, {length} |
| licence of the corpus | {_cell(licence)} |

Made with genrepro, a reproducible DVC pipeline after unit 4 of the Hugging Face audio course."""


def _use(params: Params, heard: dict) -> str:
    rate, seconds = heard["sampling_rate"], heard["segment_seconds"]
    onnx = ""
    if params.export.onnx:
        onnx = "\n\n`onnx/model.onnx` takes the same features and needs no PyTorch"
        onnx += "; in `onnx/model_int8.onnx` what is\nfaster in 8 bits is in them."
        onnx = onnx if params.export.int8 else onnx.split(";")[0] + "."
    return f"""## How to use it

```python
import soundfile
from transformers import pipeline

classifier = pipeline("audio-classification", model="path/to/this/folder")  # or its Hub id
samples, rate = soundfile.read("clip.wav", dtype="float32")
assert samples.ndim == 1 and rate == {rate}  # mono, in Hz; else mix down and resample first
print(classifier(samples[: round({seconds:g} * rate)], top_k=3))
```

It was trained on segments of {seconds:g} s. Cut a longer clip into such segments and average their
logits: so the figures below were measured.{onnx}"""


def _result(params: Params, facts: Facts) -> str:
    test = facts.test
    rows = [
        ("accuracy", "accuracy", "accuracy_interval"),
        ("accuracy, resampled by group", "accuracy", "accuracy_by_group_interval"),
        ("macro F1", "macro_f1", "macro_f1_interval"),
        ("loss (cross-entropy)", "loss", "loss_interval"),
        ("expected calibration error", "calibration_error", "calibration_error_interval"),
    ]
    table = "\n".join(
        f"| {name} | {_number(test[key], 4)} | {_interval(test[span])} |"
        for name, key, span in rows
    )
    return f"""## Result

On {test["clips"]} test clips, on which nothing was chosen; the {_chosen(params)} was chosen on
{facts.validation["clips"]} validation clips. Intervals are at {params.evaluate.confidence:.0%}.

| measure | value | interval |
|---|---|---|
{table}

Divided by a temperature of {_number(test["temperature"])}, fitted on validation, the logits have a
calibration error of {_number(test["calibration_error_after_temperature"], 4)}."""


def _labels_table(labels: dict) -> str:
    rows = "\n".join(
        f"| {_cell(label)} | {found['clips']} | {_number(found['precision'])} "
        f"| {_number(found['recall'])} | {_interval(found['recall_interval'])} "
        f"| {_number(found['f1'])} |"
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
    known, total = sum(split["known_groups"].values()), sum(split["clips"].values())
    groups = "No clip has" if not known else f"{known} of {total} clips have"
    difference = split["smallest_difference"]
    need = ""
    if difference is not None:
        need = f"""

With this test part, two models must differ by about {difference * 100:.1f} points of accuracy
before a comparison is likely to show it."""
    return f"""## Split

Protocol `{split["protocol"]}`, fold {split["fold"]}: {parts} clips. {groups} a known group (artist,
band or speaker).

{audit}{need}"""


def _training(params: Params, facts: Facts) -> str:
    validation, source, heard = facts.validation, facts.source, facts.extractor
    settings = "\n".join(
        f"- {key}: {_plain(value)}"
        for key, value in _settings(params, source).items()
        if value is not None
    )
    rows = "\n".join(
        f"| {validation.get('penalty', epoch):g} | "
        + " | ".join(_number(value, 4) for value in values)
        + " |"
        for epoch, values in enumerate(facts.curves, start=1)
    )
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in FRAMEWORKS)
    how, kept = STEPS, f"Epoch {validation.get('epoch')} was kept: {KEPT[params.train.keep]}."
    if params.train.probe:
        how, kept = PROBE, f"Of the L2 penalties, {validation['penalty']:g} had the lowest loss."
    return f"""## Training

{how}

- seed: {params.seed}
{settings}
- clips cut at {params.encode.max_seconds:g} s, in segments of {heard["segment_seconds"]:g} s
- {versions}

| {_chosen(params)} | training loss | validation loss | validation accuracy |
|---|---|---|---|
{rows}

{kept}"""


def _chosen(params: Params) -> str:
    return "L2 penalty" if params.train.probe else "epoch"


def _settings(params: Params, source: dict) -> dict[str, object]:
    """The parameters of training that played a part."""
    settings = params.train.model_dump()
    if params.train.probe:
        return {key: settings[key] for key in ("layers", "freeze")}
    scratch = settings.pop("scratch_learning_rate")
    return settings if source["weights"] else settings | {"learning_rate": scratch}


def _limits(facts: Facts) -> str:
    data, split = facts.data, facts.split
    limits = [
        "The accuracy is that of clips like the corpus': other sources, mixes and times will "
        "differ.",
        f"Every input gets one of the {len(data['labels'])} labels, also what is none of them.",
    ]
    if not any(split["known_groups"].values()):
        limits.append(
            "Who made a clip is not known, so one artist may be in training and in test; then "
            "the accuracy on artists never heard is lower."
        )
    if aside := len(data["skipped"]):
        limits.append(f"{aside} files of the corpus could not be used and were set aside.")
    limits.append(
        "What you may do with the model depends on the licences of its backbone and its corpus."
    )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _interval(interval: dict) -> str:
    if interval["low"] is None or interval["high"] is None:
        return "no interval"
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


def _number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where it is undefined (None, or not a number: unequal to itself)."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _cell(words: str) -> str:
    """Text that a table cell can hold: a bar would end it."""
    return words.replace("|", "\\|").replace("\n", " ")


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
