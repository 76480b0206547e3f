"""The model card: what was measured and how, as Markdown with the metadata that the Hub reads.

The page itself is card.md.jinja, beside this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from genrepro.core.params import Params
from genrepro.export import program

TEMPLATE = Path(__file__).with_name("card.md.jinja")
FRAMEWORKS = ("transformers", "torch", "datasets")
# The Hub's identifiers of licences that sounds have: huggingface.co/docs/hub/repositories-licenses
LICENCES = "cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0"
LICENCES += (
    " cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0"
)
LICENCES += " cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0"
LICENCES += " cdla-permissive-2.0 odc-by odbl pddl apache-2.0 mit unlicense"
LEAKS = {
    "groups": "share their artist, band or speaker with a training or validation clip",
    "titles": "are of the same piece as a training or validation clip",
    "identical": "are byte for byte the same as a training or validation clip",
    "near_identical": "are the same recording as a training or validation clip",
}


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
    curves: list[dict[str, float]]  # value, training_loss, validation_loss, accuracy of each tried


def text(params: Params, facts: Facts) -> str:
    """Render the card of the model that `evaluate` measured, the README.md of its folder.

    Everything on it comes from the facts and params.yaml; nothing is typed by hand.
    """
    pretrained = bool(facts.source["weights"])
    card = ModelCard.from_template(
        _metadata(facts),
        template_path=str(TEMPLATE),
        facts=facts,
        params=params,
        name=model_name(facts),
        backbone=_backbone(facts.source),
        pretrained=pretrained,
        temperature_hurts=_temperature_hurts(facts.test),
        labels=", ".join(_cell(label) for label in facts.data["labels"]),
        duration=_duration(facts.data["seconds"]),
        seconds=f"{facts.extractor['segment_seconds']:g}",
        confidence=f"{params.evaluate.confidence:.0%}",
        clips=", ".join(f"{count} {split}" for split, count in facts.split["clips"].items()),
        leaks=LEAKS,
        settings=_settings(params, facts, pretrained),
        program=program.supports(facts.extractor["feature_extractor_type"]),
        versions=", ".join(f"{name} {version(name).split('+')[0]}" for name in FRAMEWORKS),
        number=_number,
        interval=_interval,
        cell=_cell,
    )
    return f"{card}\n"


def model_name(facts: Facts) -> str:
    """Name the model as the course does: distilhubert-finetuned-gtzan."""
    done = "finetuned" if facts.source["weights"] else "trained"
    return f"{_last(facts.source['id'])}-{done}-{_last(facts.data['corpus']['name'])}"


def _last(name: str) -> str:
    """The last part of a Hub id or a folder: a card must not reveal the folders of a disk."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def _backbone(source: dict) -> str:
    if source["revision"]:
        return f"`{source['id']}` at revision `{source['revision']}`"
    return f"`{_last(source['id'])}`"


def licence(facts: Facts) -> str | None:
    """The Hub's identifier of the corpus' licence, where it alone decides.

    Pretrained weights bring a licence of their own, which is recorded nowhere: None, rather than
    promise what their authors did not.
    """
    stated = re.split(r"[;,(]", facts.data["corpus"]["licence"] or "")[0]
    identifier = "-".join(stated.lower().split())
    return identifier if identifier in LICENCES.split() and not facts.source["weights"] else None


def _metadata(facts: Facts) -> ModelCardData:
    """What the Hub reads. Its results name a dataset of the Hub; other corpora have none there."""
    corpus, test, source = facts.data["corpus"], facts.test, facts.source
    results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio Classification",
            dataset_type=corpus["repo"],
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
        license=licence(facts),
        model_name=model_name(facts),
        base_model=on_hub,
        base_model_relation="finetune" if on_hub else None,
        finetuned_from=on_hub,  # the course's word for it; the Hub reads base_model
        datasets=[corpus["repo"]] if corpus["repo"] else None,
        library_name="transformers",
        pipeline_tag="audio-classification",
        metrics=["accuracy", "f1"],
        tags=["audio-classification", "generated_from_trainer", "genrepro"],
        eval_results=results if corpus["repo"] else None,
    )


def _settings(params: Params, facts: Facts, pretrained: bool) -> dict[str, object]:
    """The training parameters that had an effect, and what `auto` was resolved to."""
    ran_on = {key: facts.validation[key] for key in ("precision", "device")}
    settings = params.train.model_dump() | ran_on
    if params.train.probe:
        return {key: settings[key] for key in ("layers", "freeze", *ran_on)}
    scratch = settings.pop("scratch_learning_rate")
    if not pretrained:
        settings["learning_rate"] = scratch
    settings["augment"] = ", ".join(settings["augment"]) or None
    return {key: value for key, value in settings.items() if value is not None}


def _temperature_hurts(test: dict) -> bool:
    before, after = test["calibration_error"], test["calibration_error_after_temperature"]
    return None not in (before, after) and after > before


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _interval(interval: dict) -> str:
    if interval["low"] is None or interval["high"] is None:
        return "no interval"
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


def _number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where it is undefined (None or NaN)."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _cell(words: str) -> str:
    """Text for a table cell, which a vertical bar would end."""
    return words.replace("|", "\\|").replace("\n", " ")
