"""A backbone from a folder: what is copied, what is refused, and that damage ends in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genrepro import pretrained
from genrepro.core.errors import PipelineError
from genrepro.core.params import Model, load
from genrepro.encoding.extractor import adapt, load_extractor
from genrepro.model import backbone
from stages import fetch_model
from tests.support.hub_contents import PREPROCESSOR
from tests.support.samples import ROOT, tiny_backbone


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def take(folder: Path, **model: object) -> dict[str, object]:
    given = {"id": str(folder), "revision": None, "allow_pickle": False} | model
    target = folder.parent / "taken"
    shutil.rmtree(target, ignore_errors=True)
    return pretrained.take(Model(**given), target)


def test_a_folder_without_weights_is_trained_from_scratch(tmp_path):
    folder = shutil.copytree(ROOT / "tests/support/tiny-ast", tmp_path / "tiny-ast")
    model = Model(id=str(folder), revision=None, allow_pickle=False)
    source = pretrained.take(model, tmp_path / "taken")
    assert source == {"id": model.id, "revision": None, "weights": None}
    names = {path.name for path in (tmp_path / "taken").iterdir()}
    assert names == {"config.json", "preprocessor_config.json", "source.json"}


def test_only_configuration_and_safe_weights_are_copied(folder):
    save_file({"x": np.ones(3)}, folder / "model.safetensors")
    for name in ("modeling_own.py", "pytorch_model.bin", "optimizer.pt", "README.md"):
        (folder / name).write_text("x")
    source = take(folder)
    names = {path.name for path in (folder.parent / "taken").iterdir()}
    assert names == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "source.json",
    }
    assert list(source["weights"]) == ["model.safetensors"]


def test_sharded_weights_are_copied_with_their_index(folder):
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in shards:
        save_file({name: np.ones(3)}, folder / name)
    index = {"metadata": {}, "weight_map": {name: name for name in shards}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert list(take(folder)["weights"]) == shards
    (folder / shards[1]).unlink()
    with pytest.raises(PipelineError, match=f"has no {shards[1]}"):
        take(folder)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", 7, "model.bin"])
def test_an_index_cannot_name_files_elsewhere(folder, shard):
    index = {"weight_map": {"x": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PipelineError, match="does not name its shards properly"):
        take(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, "has no config.json"),
        ("preprocessor_config.json", None, "has no preprocessor_config.json"),
        ("config.json", "{", "not readable as JSON"),
        ("config.json", "[" * 100_000, "not readable as JSON"),
        ("config.json", "[]", "not a JSON object"),
        ("config.json", "{}", "names no model_type"),
        ("preprocessor_config.json", '{"sampling_rate": "16k"}', "no sampling_rate"),
        ("preprocessor_config.json", '{"sampling_rate": NaN}', "no sampling_rate"),
    ],
)
def test_a_folder_that_is_not_a_backbone(folder, name, content, words):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(PipelineError, match=words):
        take(folder)


AUTO_MAP = {"auto_map": {"AutoModelForAudioClassification": "own.Model"}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"model_type": "hubert"} | AUTO_MAP),
        ("preprocessor_config.json", PREPROCESSOR | AUTO_MAP),
        ("processor_config.json", {"feature_extractor": PREPROCESSOR | AUTO_MAP}),
        ("processor_config.json", {"feature_extractor": PREPROCESSOR} | AUTO_MAP),
    ],
)
def test_a_model_with_code_of_its_own_is_refused(folder, name, content):
    if name == "processor_config.json":
        (folder / "preprocessor_config.json").unlink()
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(PipelineError, match=f"{name} of .* asks for code .* never run"):
        take(folder)


def test_quantized_weights_are_refused(folder):
    quantization = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    config = {"model_type": "hubert", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="quantized weights cannot be fine-tuned"):
        take(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_implementation_that_a_config_asks_for_is_not_used(tmp_path, key):
    """transformers would raise ImportError, or fetch the code from the Hub."""
    source = tiny_backbone("hubert", tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    asked = {key: "flash_attention_2", "quantization_config": None}
    (source / "config.json").write_text(json.dumps(config | asked))
    take(source)
    params = load(ROOT / "params.yaml")
    extractor = adapt(load_extractor(tmp_path / "taken"), params.encode, 1.0)
    model, pretrained = backbone.build(tmp_path / "taken", ["a", "b"], extractor, params.train, 0)
    assert pretrained and model.config._attn_implementation != "flash_attention_2"


def test_a_backbone_saved_with_a_processor_of_transformers_5(tmp_path):
    """It has processor_config.json and no preprocessor_config.json."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2Processor

    source = tiny_backbone("hubert", tmp_path / "model")
    extractor = load_extractor(source)
    (source / "preprocessor_config.json").unlink()
    (source / "vocab.json").write_text('{"<pad>": 0, "<unk>": 1, "|": 2, "<s>": 3, "</s>": 4}')
    tokenizer = Wav2Vec2CTCTokenizer(str(source / "vocab.json"))
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(source)
    assert not (source / "preprocessor_config.json").exists()
    take(source)
    assert load_extractor(tmp_path / "taken").to_dict() == extractor.to_dict()
    names = {path.name for path in (tmp_path / "taken").iterdir()}
    assert names == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "source.json",
    }


def test_a_folder_of_the_repository_that_dvc_does_not_watch_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in ("model", str(folder)):
        with pytest.raises(PipelineError, match="move it into backbones"):
            take(folder, id=name)
    (folder.parent / "backbones").mkdir()
    shutil.move(folder, "backbones/model")
    assert take(folder, id="backbones/model")["weights"] is None


def test_a_folder_outside_the_repository_comes_with_a_warning(
    folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "repo/backbones").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repo")
    params = load(ROOT / "params.yaml")
    for name, warned in ((folder, True), (Path("backbones/model"), False)):
        model = params.model.model_copy(update={"id": str(name)})
        fetch_model.main(params.model_copy(update={"model": model}))
        assert ("DVC does not watch" in capsys.readouterr().out) is warned
        shutil.copytree(folder, "backbones/model", dirs_exist_ok=True)


def test_a_revision_is_for_the_hub(folder):
    with pytest.raises(PipelineError, match=r"model\.revision is for the Hub"):
        take(folder, revision="main")


def test_pickled_weights_need_permission_and_may_hold_only_tensors(folder):
    import torch

    torch.save({"x": torch.ones(3)}, folder / "pytorch_model.bin")
    with pytest.raises(PipelineError, match=r"model\.allow_pickle to true"):
        take(folder)
    take(folder, allow_pickle=True)
    taken = folder.parent / "taken"
    assert {path.suffix for path in taken.iterdir()} == {".json", ".safetensors"}
    np.testing.assert_array_equal(load_file(taken / "model.safetensors")["x"], np.ones(3))
    torch.save({"x": Path("/")}, folder / "pytorch_model.bin")
    with pytest.raises(PipelineError, match="holds more than tensors"):
        take(folder, allow_pickle=True)


def test_damaged_weights_end_in_a_sentence(folder):
    path = folder / "model.safetensors"
    save_file({f"layer.{n}": np.ones((4, 4)) for n in range(20)}, path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(5)
    outcomes = {"read": 0, "refused": 0}
    for number in range(200):
        content = whole.copy()
        at = random.integers(0, 12 if number % 4 == 0 else len(content), 4)
        content[at] = random.integers(0, 256, 4)
        path.write_bytes(content[: None if number % 3 else random.integers(len(content))].tobytes())
        try:
            take(folder)
            outcomes["read"] += 1
        except PipelineError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def test_a_folder_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert take(folder, id="~/model")["id"] == "~/model"


def test_a_model_that_somebody_put_into_models_backbone_is_not_replaced(in_tmp):
    own = in_tmp / "models/backbone/config.json"
    own.parent.mkdir(parents=True)
    own.write_text("{}")
    with pytest.raises(PipelineError, match="models/backbone would be replaced"):
        fetch_model.main(load(ROOT / "params.yaml"))
    assert own.read_text() == "{}"
