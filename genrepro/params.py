"""params.yaml as one typed model: what is wrong in it is said before any work begins."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from genrepro import plain_yaml
from genrepro.runtime import PipelineError

PARAMS_FILE = Path("params.yaml")
MOST_PROBLEMS = 20  # that one message names


class Section(BaseModel):
    """Unknown keys are errors; "1e-05", which YAML 1.1 reads as a string, is a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    corpus: str = Field(min_length=1)
    facts: str | None
    name_pattern: str | None


class Model(Section):
    id: str = Field(min_length=1)
    revision: str | None
    allow_pickle: bool


class Split(Section):
    protocol: Literal["auto", "stratified", "grouped", "published", "course"]
    folds: int = Field(ge=2)
    fold: int = Field(ge=0)
    validation: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _fold_exists(self) -> Split:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be below folds: 0 to {self.folds - 1}, not {self.fold}")
        return self


class Encode(Section):
    max_seconds: float = Field(ge=0.1)  # audio.MIN_SECONDS, below which nothing is heard
    segment_seconds: float = Field(ge=0.1)
    hop_seconds: float | None = Field(gt=0)
    normalize: bool
    launcher: str = Field(min_length=1)


class Train(Section):
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    effective_batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    scratch_learning_rate: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    early_stopping: int = Field(ge=0)
    keep: Literal["best", "last"]
    layers: int | None = Field(ge=1)
    weighted_layer_sum: bool
    freeze: Literal["nothing", "convolutions", "backbone"]
    probe: bool
    precision: Literal["auto", "fp16", "bf16", "none"]
    gradient_checkpointing: bool
    device: Literal["auto", "cpu", "cuda"]
    deterministic: bool
    launcher: str = Field(min_length=1)

    @model_validator(mode="after")
    def _batches_divide(self) -> Train:
        if self.effective_batch_size % self.batch_size:
            raise ValueError(
                f"effective_batch_size ({self.effective_batch_size}) must be a multiple of "
                f"batch_size ({self.batch_size}), so that accumulated gradients make it up"
            )
        return self

    @model_validator(mode="after")
    def _probed_as_frozen(self) -> Train:
        if self.probe and (self.freeze != "backbone" or self.weighted_layer_sum):
            raise ValueError(
                "probe finds a head for one frozen layer: it needs freeze=backbone and "
                "weighted_layer_sum=false"
            )
        return self


class Evaluate(Section):
    batch_size: int = Field(ge=1)
    confidence: float = Field(gt=0, lt=1)
    bootstrap: int = Field(ge=100)
    mistakes: int = Field(ge=0)


class Export(Section):
    onnx: bool
    int8: bool


class Params(Section):
    """All of params.yaml. Each stage reads its own section, but the whole file must be sound."""

    seed: int = Field(ge=0, lt=2**32)
    data: Data
    model: Model
    split: Split
    encode: Encode
    train: Train
    evaluate: Evaluate
    export: Export


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        PipelineError: a key is unknown or missing, or a value has a wrong type or is impossible;
            the message names each such key and what is allowed there.
    """
    try:
        raw = plain_yaml.read(path)
    except FileNotFoundError:
        raise PipelineError(f"{path} is not here: run from the repository's root.") from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(problem)}" for problem in error.errors()[:MOST_PROBLEMS])
        raise PipelineError(f"{path} cannot be used:\n{lines}") from None


def _explain(problem: dict) -> str:
    """One line for one of pydantic's findings: the key, what is wrong, what is allowed."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)[:100] or "the file"
    if problem["type"] == "extra_forbidden":
        known = _keys_of(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{key}: there is no such key{hint}; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem["input"]
    words = "" if isinstance(given, dict) else f", not {plain_yaml.shortened(given)}"
    return f"{key}: {message[0].lower()}{message[1:]}{words}"


def _keys_of(location: list[str]) -> list[str]:
    fields = Params.model_fields
    for part in location:
        fields = fields[part].annotation.model_fields
    return list(fields)
