"""A backbone's files from the Hub or a folder: configuration, feature extractor and safe weights.

Only these are taken: never code, and pickled weights only where params.yaml allows them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from genrepro.core.config import read_yaml
from genrepro.core.errors import PipelineError, one_line
from genrepro.core.files import sha256, write_json
from genrepro.core.params import Model

FOLDER = Path("backbones")  # the one that DVC watches
PINS = FOLDER / "revisions.yaml"
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # what a processor of transformers 5 saves instead
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
SOURCE = "source.json"

MIN_RATE, MAX_RATE = 2_000, 768_000  # Hz, of a model that processes audio
MAX_JSON_BYTES = 50_000_000
SHARD_NAME = re.compile(r"[\w.-]+\.safetensors")  # no slash: an index must not lead elsewhere
HUB_ID = re.compile(r"(?!\.)[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class Origin:
    """Where a backbone's files come from."""

    fetch: Callable[[str], Path | None]  # from a file's name to its path, or None if missing
    name: str  # for messages
    revision: str | None  # the Hub commit
    weights_needed: bool  # a folder without weights is trained from scratch; the Hub's have some


def take(model: Model, target: Path) -> dict[str, object]:
    """Copy the backbone that `model` names into the new folder `target`, with source.json.

    Returns:
        The content of source.json: id, revision (the Hub commit or None), weights (the SHA-256 of
        each weights file, or None where the backbone is trained from scratch).

    Raises:
        PipelineError: it does not exist, lacks a file, or a file is damaged.
    """
    origin = _folder(model) if folder_of(model).is_dir() else _hub(model)
    target.mkdir(parents=True)
    _copy_config(origin, target)
    _copy_preprocessor(origin, target)
    names = _copy_weights(origin, target, model.allow_pickle)
    if not names and origin.weights_needed:
        raise PipelineError(f"{origin.name} has no weights: set model.id to a model that has some.")
    weights = {name: sha256(target / name) for name in names}
    source: dict[str, object] = {
        "id": model.id,
        "revision": origin.revision,
        "weights": weights or None,
    }
    write_json(target / SOURCE, source)
    return source


def folder_of(model: Model) -> Path:
    """The folder that model.id is, unless it is an id on the Hub."""
    return Path(model.id).expanduser()


def _folder(model: Model) -> Origin:
    if model.revision:
        raise PipelineError(
            f"model.revision is for the Hub, and model.id is the folder {model.id}: "
            "set model.revision to null."
        )
    folder = folder_of(model).resolve()
    if folder.is_relative_to(Path.cwd()) and not folder.is_relative_to(FOLDER.resolve()):
        raise PipelineError(
            f"model.id: DVC watches the folder {FOLDER} and not {model.id}, so that changes to it "
            f"would go unnoticed: move it into {FOLDER}."
        )

    def fetch(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else None

    return Origin(fetch, model.id, None, weights_needed=False)


def _hub(model: Model) -> Origin:
    if not HUB_ID.fullmatch(model.id):
        raise PipelineError(
            f"model.id: there is no folder {model.id}, and it is no id on the Hub: "
            "an id looks like ntu-spml/distilhubert."
        )
    from genrepro.hub import client

    def fetch(name: str, revision: str | None) -> Path | None:
        try:
            return client.fetch(model.id, name, revision, "model")
        except client.MissingFile:
            return None

    revision = model.revision or _pins().get(model.id)
    try:
        path = fetch(CONFIG, revision)
    except PipelineError as error:
        raise PipelineError(f"model.id: there is no folder {model.id}, and {error}") from None
    commit = client.commit_of(path, CONFIG) if path else revision
    return Origin(lambda name: fetch(name, commit), model.id, commit, weights_needed=True)


def _pins() -> dict[str, str]:
    pins = read_yaml(PINS) if PINS.is_file() else None
    return pins if isinstance(pins, dict) else {}


def _copy_config(origin: Origin, target: Path) -> None:
    path, config = _read(origin, CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise PipelineError(f"{CONFIG} of {origin.name} names no model_type: it is no backbone.")
    if config.get("quantization_config"):
        raise PipelineError(
            f"{CONFIG} of {origin.name} has a quantization_config: quantized weights cannot be "
            "fine-tuned here; set model.id to the model that they were made from."
        )
    shutil.copyfile(path, target / CONFIG)


def _copy_preprocessor(origin: Origin, target: Path) -> None:
    nested = not origin.fetch(PREPROCESSOR) and origin.fetch(PROCESSOR)
    path, content = _read(origin, PROCESSOR if nested else PREPROCESSOR)
    if nested:
        extractor = content.get("feature_extractor")
        content = extractor if isinstance(extractor, dict) else {}
        _check_no_code(content, f"{PROCESSOR} of {origin.name}")
    rate = content.get("sampling_rate")
    if not isinstance(rate, int | float) or not MIN_RATE <= rate <= MAX_RATE:
        raise PipelineError(
            f"{path.name} of {origin.name} gives no sampling_rate in Hz: "
            "it does not prepare audio; set model.id to an audio model."
        )
    if nested:
        text = json.dumps(content, indent=2) + "\n"
        (target / PREPROCESSOR).write_text(text, encoding="utf-8")
    else:
        shutil.copyfile(path, target / PREPROCESSOR)


def _read(origin: Origin, name: str) -> tuple[Path, dict]:
    path = origin.fetch(name)
    if path is None:
        raise PipelineError(
            f"{origin.name} has no {name}: a backbone needs {CONFIG} and {PREPROCESSOR}."
        )
    content = _read_json(path, f"{name} of {origin.name}")
    _check_no_code(content, f"{name} of {origin.name}")
    return path, content


def _check_no_code(content: dict, name: str) -> None:
    if content.get("auto_map"):
        raise PipelineError(
            f"{name} asks for code of the model's own (auto_map), which is never run here: "
            "set model.id to a model that transformers itself supports."
        )


def _read_json(path: Path, name: str) -> dict:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{name} is not readable as JSON ({type(error).__name__}).") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{name} is not a JSON object.")
    return content


def _copy_weights(origin: Origin, target: Path, allow_pickle: bool) -> list[str]:
    """Copy the weights and check their headers; return the names of the files."""
    if whole := origin.fetch(WEIGHTS):
        _copy_safe(whole, WEIGHTS, target, origin)
        return [WEIGHTS]
    if index := origin.fetch(INDEX):
        names = _shards(index, origin)
        shutil.copyfile(index, target / INDEX)
        for name in names:
            shard = origin.fetch(name)
            if shard is None:
                raise PipelineError(f"{origin.name} has no {name}, which its {INDEX} names.")
            _copy_safe(shard, name, target, origin)
        return names
    if pickled := _pickled(origin, allow_pickle):
        _convert(pickled, target / WEIGHTS, origin)
        return [WEIGHTS]
    return []


def _shards(index: Path, origin: Origin) -> list[str]:
    weight_map = _read_json(index, f"{INDEX} of {origin.name}").get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not names or not all(isinstance(n, str) and SHARD_NAME.fullmatch(n) for n in names):
        raise PipelineError(f"{INDEX} of {origin.name} does not name its shards properly.")
    return sorted(set(names))


def _copy_safe(path: Path, name: str, target: Path, origin: Origin) -> None:
    try:
        with safe_open(path, framework="np") as tensors:
            damage = None if tensors.keys() else "it holds no tensors"
    except SafetensorError as error:
        damage = one_line(error)
    if damage:
        raise PipelineError(
            f"{name} of {origin.name} is damaged ({damage}): download or copy it again."
        )
    shutil.copyfile(path, target / name)


def _pickled(origin: Origin, allow_pickle: bool) -> Path | None:
    """Find the pickled weights, if allowed; if not, the Hub's are not even downloaded."""
    if allow_pickle:
        return origin.fetch(PICKLED)
    if not origin.weights_needed and origin.fetch(PICKLED) is None:
        return None
    raise PipelineError(
        f"{origin.name} has no {WEIGHTS}. If it has a {PICKLED} and you trust its author, set "
        "model.allow_pickle to true; a pickle can run any code."
    )


def _convert(path: Path, target: Path, origin: Origin) -> None:
    """Write pickled weights as safetensors; torch refuses whatever is not a tensor."""
    import pickle

    import torch  # takes seconds to import, and is hardly ever needed here
    from safetensors.torch import save_file

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise PipelineError(
            f"{PICKLED} of {origin.name} is damaged or holds more than tensors "
            f"({type(error).__name__}); it was not loaded."
        ) from None
    tensors = state if isinstance(state, dict) else {}
    tensors = {k: v.contiguous().clone() for k, v in tensors.items() if torch.is_tensor(v)}
    if not tensors:
        raise PipelineError(f"{PICKLED} of {origin.name} holds no tensors.")
    save_file(tensors, target, metadata={"format": "pt"})
