"""params.yaml as one typed model: what is wrong in it is reported before any work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from genrepro.core import paths
from genrepro.core.config import Section, read_yaml, validate
from genrepro.core.errors import PipelineError

RESTORE = (
    "params.yaml holds the value now, also if `dvc exp run -S` set it: correct it there, or type "
    "`git restore params.yaml`. Nothing was run or deleted."
)


class Data(Section):
    corpus: str = Field(min_length=1)
    facts: str | None
    name_pattern: str | None
    corrections: str | None


class Model(Section):
    id: str = Field(min_length=1)
    revision: str | None
    allow_pickle: bool


class Split(Section):
    protocol: Literal["auto", "stratified", "grouped", "published", "course"]
    folds: int = Field(ge=2)
    fold: int = Field(ge=0)
    validation: float = Field(gt=0, lt=1)
    same_recordings: bool
    keep: bool

    @model_validator(mode="after")
    def _fold_exists(self) -> Split:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be below folds: 0 to {self.folds - 1}, not {self.fold}")
        return self


class Encode(Section):
    max_seconds: float = Field(ge=0.1)  # audio.MIN_SECONDS
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
    class_weights: Literal["none", "balanced"]
    dropout: float | None = Field(ge=0, lt=1)
    spec_augment: bool | None
    augment: list[Literal["gain", "noise", "shift", "band_limit", "mixup"]]
    early_stopping: int = Field(ge=0)
    keep: Literal["best", "last"]
    select_by: Literal["accuracy", "macro_f1", "loss"]
    layers: int | None = Field(ge=1)
    weighted_layer_sum: bool
    freeze: Literal["nothing", "convolutions", "backbone"]
    probe: bool
    precision: Literal["auto", "fp16", "bf16", "fp64", "none"]
    gradient_checkpointing: bool
    fast_kernels: bool
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
        if self.probe and (self.augment or self.spec_augment or self.dropout):
            raise ValueError(
                "probe solves for its head on outputs that are computed once: it needs augment=[], "
                "spec_augment=null and dropout=null"
            )
        return self


class Evaluate(Section):
    batch_size: int = Field(ge=1)
    device: Literal["auto", "cpu", "cuda"]
    confidence: float = Field(gt=0, lt=1)
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


def uncorrected(params: Params) -> Params:
    """The same without data.corrections, which change no sound."""
    data = params.data.model_copy(update={"corrections": None})
    return params.model_copy(update={"data": data})


def load(path: Path = paths.PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        PipelineError: a key is unknown or missing, or a value has a wrong type or is impossible;
            the message names each such key and what is allowed there.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise PipelineError(f"{path} is not here: run from the repository's root.") from None
    return validate(Params, content, path, RESTORE)
