"""Build a classifier on any backbone that AutoModelForAudioClassification takes, and load it again.

Backbones are loaded from a folder, in float32 and from safetensors only, and are cropped to the
length of a segment.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import SequenceFeatureExtractor as Extractor
from transformers.utils import logging

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.params import Train
from genrepro.core.stage import log
from genrepro.model.allocator import release_between_shapes
from genrepro.model.attention import use_blockwise_dropout
from genrepro.model.convolution import use_fourier_convolutions
from genrepro.model.crop import crop, crop_config
from genrepro.model.dropout import use_portable_dropout
from genrepro.model.wave_encoder import use_matrix_products

# The names, in transformers, of what a classifier adds to a backbone and a checkpoint may lack.
HEAD = ("classifier", "projector", "layer_weights")
OPTIONAL = ("masked_spec_embed",)  # used only by SpecAugment, and missing from some checkpoints
# What configs call the dropout of hidden values, attention weights, activations and the head.
DROPOUTS = {"hidden_dropout", "hidden_dropout_prob", "dropout", "attention_dropout"}
DROPOUTS |= {"attention_probs_dropout_prob", "activation_dropout", "final_dropout"}
_CONFIG_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
)
_CONFIG_ERRORS += (ValueError, StrictDataclassError)  # transformers checks few of its values


def build(
    folder: Path, labels: list[str], extractor: Extractor, train: Train, seed: int
) -> tuple[PreTrainedModel, bool]:
    """Build the model to fine-tune, with the labels in its config.

    Returns:
        The model on the CPU, in float32 (float64 for fp64), and whether its backbone is
        pretrained.

    Raises:
        PipelineError: no model can be built from config.json, transformers has no audio
            classifier of this kind, the weights do not fit the config, or the backbone lacks what
            `train.layers`, `weighted_layer_sum`, `dropout` or `spec_augment` of `train` need.
    """
    logging.disable_progress_bar()  # while weights are loaded
    try:
        return _build(folder, labels, extractor, train, seed)
    except _CONFIG_ERRORS as error:
        raise PipelineError(
            f"no model can be built from {folder}/config.json ({one_line(error)}); "
            "fetch the original file from its author."
        ) from None


def _build(
    folder: Path, labels: list[str], extractor: Extractor, train: Train, seed: int
) -> tuple[PreTrainedModel, bool]:
    config = _config(folder, labels, train)
    # Initial weights that are drawn in float32 differ in their last bits between processors.
    dtype = torch.float64 if train.precision == "fp64" else torch.float32
    torch.manual_seed(seed)  # initial weights of the head
    pretrained = has_weights(folder)
    if pretrained:
        model = _pretrained(folder, config, dtype)
        crop(model, extractor)
    else:
        crop_config(config, extractor)
        model = AutoModelForAudioClassification.from_config(
            config, dtype=dtype, trust_remote_code=False
        )
    random = train.freeze == "convolutions" and not pretrained
    freeze(model, "nothing" if random else train.freeze)
    if train.spec_augment and masks_itself(model):
        _check_masks(config)
    skip_masks_longer_than_input(model)
    return use_fast_kernels(model) if train.fast_kernels else model, pretrained


def load(folder: Path) -> PreTrainedModel:
    """Load a trained classifier for inference, on the CPU, with the fast kernels.

    It is in float64 if it was trained in float64, else in float32.

    Raises:
        PipelineError: the folder holds no trained classifier, or a damaged one.
    """
    if not (folder / "config.json").exists():
        raise PipelineError(f"{folder} holds no trained model: type `dvc repro`.")
    logging.disable_progress_bar()
    try:
        config = _read_config(folder)
        model = AutoModelForAudioClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.promote_types(config.dtype or torch.float32, torch.float32),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"the model in {folder} cannot be loaded ({one_line(error)}); "
            "train it again with `dvc repro -f train`."
        ) from None
    return use_fast_kernels(model).eval()


def use_fast_kernels(model: PreTrainedModel) -> PreTrainedModel:
    """Replace, in place, what PyTorch computes slowly.

    Results differ by rounding; on a CPU, dropout also drops other values.
    """
    use_portable_dropout(model)
    use_blockwise_dropout(model)
    use_fourier_convolutions(model)
    use_matrix_products(model)
    release_between_shapes(model)
    return model


def skip_masks_longer_than_input(model: PreTrainedModel) -> None:
    """Skip SpecAugment for batches shorter than one of its masks, for which transformers raises.

    A mask covers `mask_time_length` frames, which are 0.2 s by default.
    """
    body = model.base_model
    if masks_itself(model):
        body._mask_hidden_states = functools.partial(_mask_hidden_states, body)


def _check_masks(config) -> None:
    if not config.mask_time_prob and not config.mask_feature_prob:
        raise PipelineError(
            "train.spec_augment is true, but the backbone's config.json sets mask_time_prob and "
            "mask_feature_prob to 0, so that nothing would be masked; set it to null."
        )


def masks_itself(model: PreTrainedModel) -> bool:
    """Whether SpecAugment is part of the classifier. Whisper's and AST's never mask anything,
    although Whisper's config has the keys.
    """
    return hasattr(model.base_model, "_mask_hidden_states")


def _mask_hidden_states(body: nn.Module, hidden: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    if hidden.shape[1] < body.config.mask_time_length:
        return hidden
    return type(body)._mask_hidden_states(body, hidden, *args, **kwargs)


def has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _read_config(folder: Path) -> PreTrainedConfig:
    """Read config.json without what would import other packages, or code from the Hub."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(config, "quantization_config", None):
        raise PipelineError(
            f"the weights in {folder} are quantized; set model.id to the model before quantization."
        )
    config._attn_implementation = None  # PyTorch's fused attention, where the model supports it
    config.return_dict, config.output_hidden_states, config.output_attentions = True, False, False
    if hasattr(config, "auto_map"):  # where the author's code is
        del config.auto_map
    return config


def _config(folder: Path, labels: list[str], train: Train) -> PreTrainedConfig:
    """The backbone's configuration, with every key set that the corpus or params.yaml decides."""
    ids = dict(enumerate(labels))
    config = _read_config(folder)
    config.id2label, config.label2id = ids, {label: index for index, label in ids.items()}
    config.problem_type = "single_label_classification"  # for the softmax of pipeline()
    if type(config) not in AutoModelForAudioClassification._model_mapping:
        raise PipelineError(
            f"transformers has no audio classifier for a {config.model_type} model; "
            "set model.id to a HuBERT, wav2vec2, WavLM, AST or Whisper model, for instance."
        )
    if train.weighted_layer_sum and not hasattr(config, "use_weighted_layer_sum"):
        raise PipelineError(
            f"transformers has no weighted sum of layers for a {config.model_type} model; "
            "set train.weighted_layer_sum to false."
        )
    if hasattr(config, "use_weighted_layer_sum"):
        config.use_weighted_layer_sum = train.weighted_layer_sum
    if train.weighted_layer_sum:  # a skipped layer would be missing from the sum
        for name in {"layerdrop", "encoder_layerdrop"} & vars(config).keys():
            setattr(config, name, 0.0)
    if train.dropout is not None:
        _set_dropout(config, train.dropout)
    if train.spec_augment is not None and hasattr(config, "mask_time_prob"):
        config.apply_spec_augment = train.spec_augment  # Whisper's does nothing: masks_itself
    if train.probe and hasattr(config, "classifier_proj_size"):
        config.classifier_proj_size = len(labels)  # the projector becomes the probe
    if train.layers:
        _keep_layers(config, train.layers)
    return config


def _keep_layers(config, count: int) -> None:
    """Keep the first layers only; the weights of the others are not loaded."""
    if count > config.num_hidden_layers:
        raise PipelineError(
            f"train.layers is {count}, but the backbone has {config.num_hidden_layers} layers; "
            "set it to null for all of them."
        )
    config.num_hidden_layers = count


def _set_dropout(config, share: float) -> None:
    names = DROPOUTS & vars(config).keys()
    if not names:
        raise PipelineError(
            f"a {config.model_type} model has no dropout; set train.dropout to null."
        )
    for name in names:
        setattr(config, name, share)


def _pretrained(folder: Path, config, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model, report = AutoModelForAudioClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,  # else a float16 checkpoint would be trained in float16
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"the weights in {folder} cannot be loaded ({one_line(error)}); fetch them again."
        ) from None
    mismatched = [name for name in _names(report["mismatched_keys"]) if not name.startswith(HEAD)]
    missing = [
        name
        for name in _names(report["missing_keys"])
        if not name.startswith(HEAD) and not name.endswith(OPTIONAL)
    ]
    if wrong := mismatched + missing:
        raise PipelineError(
            f"the weights in {folder} do not fit its config.json: {len(wrong)} tensors, such as "
            f"{wrong[0]}, are missing or have another shape; fetch the backbone again."
        )
    return model


def _names(keys) -> list[str]:
    return sorted(key if isinstance(key, str) else key[0] for key in keys)


def freeze(model: PreTrainedModel, what: str) -> None:
    """Exclude parameters from training: nothing, convolutions (if it has some) or backbone."""
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
    log(f"a {model.config.model_type} model has no convolutional encoder: nothing is frozen")
    return []
