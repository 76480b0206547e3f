"""Backbones: whatever transformers' AutoModelForAudioClassification takes, made ready for a corpus.

Loaded from a folder, in float32, from safetensors alone; cropped to the segments it will hear.
"""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForAudioClassification, PreTrainedModel
from transformers import SequenceFeatureExtractor as Extractor
from transformers.utils import logging

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.params import Train
from genrepro.model.attention import use_blockwise_dropout
from genrepro.model.convolution import use_fourier_convolutions
from genrepro.model.crop import crop, crop_config

# Names, in transformers, of what classification adds to a backbone, and so has no weights yet.
HEAD = ("classifier", "projector", "layer_weights")
OPTIONAL = ("masked_spec_embed",)  # used by SpecAugment alone, and left out of some checkpoints
_CONFIG_FAULTS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError)
_CONFIG_FAULTS += (ValueError, StrictDataclassError)  # transformers checks few of its values


def build(
    folder: Path, labels: list[str], extractor: Extractor, train: Train, seed: int
) -> tuple[PreTrainedModel, bool]:
    """Make the model to fine-tune, with `id2label` in its config.

    Returns:
        The model in float32 on the CPU, and whether its backbone is pretrained.

    Raises:
        PipelineError: no model can be made from config.json, transformers knows no audio
            classifier of this kind, the weights do not fit the config, or `train.freeze` or
            `train.weighted_layer_sum` asks what it does not have.
    """
    logging.disable_progress_bar()  # of loading weights
    try:
        return _built(folder, labels, extractor, train, seed)
    except _CONFIG_FAULTS as error:
        raise PipelineError(
            f"no model can be made from {folder}/config.json ({one_line(error)}); "
            "fetch it from its author."
        ) from None


def _built(
    folder: Path, labels: list[str], extractor: Extractor, train: Train, seed: int
) -> tuple[PreTrainedModel, bool]:
    config = _config(folder, labels, train)
    torch.manual_seed(seed)  # the head's first weights
    pretrained = has_weights(folder)
    if pretrained:
        model = _pretrained(folder, config)
        crop(model, extractor)
    else:
        crop_config(config, extractor)
        model = AutoModelForAudioClassification.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    freeze(model, train.freeze)
    return optimize_for_cpu(model), pretrained


def load(folder: Path) -> PreTrainedModel:
    """Load a trained classifier for inference, in float32 on the CPU.

    Raises:
        PipelineError: the folder does not hold one.
    """
    if not (folder / "config.json").exists():
        raise PipelineError(f"{folder} holds no trained model: `dvc repro` makes it.")
    logging.disable_progress_bar()
    try:
        model = AutoModelForAudioClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"the model in {folder} cannot be loaded ({one_line(error)}); "
            "make it anew with `dvc repro -f train`."
        ) from None
    return optimize_for_cpu(model).eval()


def optimize_for_cpu(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, in place, with what PyTorch computes slowly on a CPU computed otherwise."""
    use_blockwise_dropout(model)
    use_fourier_convolutions(model)
    return model


def has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _config(folder: Path, labels: list[str], train: Train):
    ids = dict(enumerate(labels))
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config.id2label, config.label2id = ids, {label: index for index, label in ids.items()}
    if type(config) not in AutoModelForAudioClassification._model_mapping:
        raise PipelineError(
            f"transformers has no audio classifier for a {config.model_type} model; "
            "set model.id to a HuBERT, wav2vec2, WavLM, AST or Whisper model, for instance."
        )
    if train.weighted_layer_sum and not hasattr(config, "use_weighted_layer_sum"):
        raise PipelineError(
            f"train.weighted_layer_sum does not exist for a {config.model_type} model; "
            "set it to false."
        )
    if train.weighted_layer_sum:
        config.use_weighted_layer_sum = True
    if train.probe and hasattr(config, "classifier_proj_size"):
        config.classifier_proj_size = len(labels)  # the projector is the probe
    if train.layers:
        _keep_layers(config, train.layers)
    return config


def _keep_layers(config, count: int) -> None:
    """The first layers alone: weights of the others find no place and are not loaded."""
    if count > config.num_hidden_layers:
        raise PipelineError(
            f"train.layers is {count}, but the backbone has {config.num_hidden_layers} layers; "
            "set it to null for all of them."
        )
    config.num_hidden_layers = count


def _pretrained(folder: Path, config) -> PreTrainedModel:
    try:
        model, report = AutoModelForAudioClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,  # else a float16 checkpoint would be trained in float16
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"the weights in {folder} cannot be loaded ({one_line(error)}); fetch it again."
        ) from None
    unfit = [name for name in _names(report["mismatched_keys"]) if not name.startswith(HEAD)]
    missing = [
        name
        for name in _names(report["missing_keys"])
        if not name.startswith(HEAD) and not name.endswith(OPTIONAL)
    ]
    if unfit or missing:
        raise PipelineError(
            f"the weights in {folder} do not fit its config.json: {len(unfit + missing)} tensors, "
            f"such as {(unfit + missing)[0]}, are missing or of another shape; fetch it again."
        )
    return model


def _names(keys) -> list[str]:
    return sorted(key if isinstance(key, str) else key[0] for key in keys)


def freeze(model: PreTrainedModel, what: str) -> None:
    """Exclude parameters from training: "nothing", "convolutions" or "backbone".

    Raises:
        PipelineError: there are no convolutions in front of this backbone's transformer.
    """
    if what == "backbone":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name.startswith(HEAD))
    elif what == "convolutions":
        for module in _convolutions(model):
            module.requires_grad_(False)


def _convolutions(model: PreTrainedModel) -> list[nn.Module]:
    if hasattr(model, "freeze_feature_encoder"):
        return [model.base_model.feature_extractor]
    if model.config.model_type == "whisper":
        return [model.encoder.conv1, model.encoder.conv2]
    raise PipelineError(
        f"a {model.config.model_type} model has no convolutional encoder; "
        "set train.freeze to nothing or backbone."
    )
