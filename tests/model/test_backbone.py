"""Classifiers on backbones of three kinds, with and without weights: built, loaded, exported."""

import json
import shutil

import numpy as np
import pytest
import torch

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.export import onnx
from genrepro.model import backbone
from genrepro.model.inference import segment_logits
from tests.support.samples import ROOT, tiny_backbone, tone

LABELS = ["high", "low", "middle"]
PARAMS = load(ROOT / "params.yaml")


@pytest.fixture(scope="module", params=["hubert", "ast", "whisper"])
def kind(request, tmp_path_factory):
    """A backbone's kind and folder, its extractor adapted to clips of 2 s, and some segments."""
    folder = tiny_backbone(request.param, tmp_path_factory.mktemp(request.param))
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=2.0)
    segments = [extract_segments(extractor, tone(f, 2.0))[0] for f in (220, 440, 880)]
    return request.param, folder, extractor, segments


def built(folder, extractor, seed=42, **changed):
    train = PARAMS.train.model_copy(update=changed)
    return backbone.build(folder, LABELS, extractor, train, seed)


def test_a_pretrained_backbone_gets_a_new_head_with_the_corpus_labels(kind):
    _, folder, extractor, segments = kind
    model, pretrained = built(folder, extractor)
    assert pretrained and model.dtype == torch.float32
    assert model.config.id2label == {0: "high", 1: "low", 2: "middle"}
    assert model.config.label2id == {"high": 0, "low": 1, "middle": 2}
    assert segment_logits(model, segments, batch_size=2).shape == (3, 3)


def test_the_seed_decides_the_initial_head(kind):
    _, folder, extractor, segments = kind
    one, same, other = (
        segment_logits(built(folder, extractor, seed)[0], segments, 3) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.allclose(one, other)


def test_a_cropped_model_is_the_same_after_saving_and_loading(kind, tmp_path):
    _, folder, extractor, segments = kind
    model, _ = built(folder, extractor)
    model.save_pretrained(tmp_path)
    loaded = backbone.load(tmp_path)
    assert np.array_equal(segment_logits(model, segments, 3), segment_logits(loaded, segments, 3))


def test_a_cropped_whisper_processes_a_segment_like_the_start_of_a_full_input(tmp_path):
    """Without its attention layers, its frames are the first ones of the full-length model."""
    folder = tiny_backbone("whisper", tmp_path)
    whole = load_extractor(folder)
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=2.0)
    (segment,) = extract_segments(extractor, tone(440, 2.0))
    model, _ = built(folder, extractor)
    full, _ = built(folder, whole)
    padded = np.pad(segment, ((0, 0), (0, 3000 - segment.shape[1]))).astype(np.float32)
    for each in (model, full):
        each.encoder.layers = torch.nn.ModuleList()
    with torch.inference_mode():
        short = model.encoder(torch.from_numpy(segment[None].astype(np.float32)))[0]
        long = full.encoder(torch.from_numpy(padded[None]))[0]
    inner = short.shape[1] - 1  # the last frame sees the padding through the convolution
    assert torch.allclose(short[:, :inner], long[:, :inner], atol=1e-5)


def test_a_cropped_ast_keeps_the_position_of_each_patch(tmp_path):
    folder = tiny_backbone("ast", tmp_path)
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=2.0)
    full, _ = built(folder, load_extractor(folder))
    model, _ = built(folder, extractor)
    whole = full.audio_spectrogram_transformer.embeddings
    part = model.audio_spectrogram_transformer.embeddings
    rows, columns = whole.get_shape(full.config)
    kept = part.get_shape(model.config)[1]
    grid = whole.position_embeddings[0, 2:].reshape(rows, columns, -1)[:, :kept]
    assert kept < columns
    assert torch.equal(part.position_embeddings[0, 2:], grid.reshape(rows * kept, -1))


def test_fast_kernels_change_logits_by_rounding_only(kind):
    name, folder, extractor, segments = kind
    quick, usual = (built(folder, extractor, fast_kernels=on)[0] for on in (True, False))
    assert usual.config._attn_implementation == "sdpa" != quick.config._attn_implementation
    difference = np.abs(segment_logits(quick, segments, 3) - segment_logits(usual, segments, 3))
    assert difference.max() < 1e-5
    assert (difference.max() > 0) == (name == "hubert")  # the only one with a long convolution


def test_a_folder_without_weights_is_trained_from_scratch(kind, tmp_path):
    _, folder, extractor, segments = kind
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, tmp_path)
    model, pretrained = built(tmp_path, extractor)
    assert not pretrained and model.config.num_labels == 3
    assert segment_logits(model, segments, 3).shape == (3, 3)


def test_weights_that_do_not_fit_the_config_are_refused(kind, tmp_path):
    name, folder, extractor, _ = kind
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    key = "d_model" if name == "whisper" else "hidden_size"
    (tmp_path / "config.json").write_text(json.dumps(config | {key: 2 * config[key]}))
    with pytest.raises(PipelineError, match=r"do not fit its config\.json"):
        built(tmp_path, extractor)


def test_a_half_precision_checkpoint_is_trained_in_single_precision(kind, tmp_path):
    _, folder, extractor, _ = kind
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    half, _ = built(folder, extractor)
    half.half().save_pretrained(tmp_path)
    assert {p.dtype for p in built(tmp_path, extractor)[0].parameters()} == {torch.float32}


def test_dropout_is_set_in_every_layer_that_has_some(kind):
    """In the configs of all three kinds, and so in what their layers draw."""
    _, folder, extractor, segments = kind
    batch = torch.from_numpy(np.stack(segments).astype(np.float32))
    masks = {"apply_spec_augment": False, "layerdrop": 0.0}
    for share in (0.0, 0.3):
        model, _ = built(folder, extractor, dropout=share)
        keys = backbone.DROPOUTS & vars(model.config).keys()
        assert len(keys) >= 2 and {getattr(model.config, key) for key in keys} == {share}
        for key in masks.keys() & vars(model.config).keys():
            setattr(model.config, key, masks[key])
        one, two = (model.train()(batch).logits for _ in range(2))
        assert torch.equal(one, two) == (share == 0)
    unset, _ = built(folder, extractor)
    original = json.loads((folder / "config.json").read_text())
    assert all(getattr(unset.config, key) == original[key] for key in keys)


def test_an_architecture_without_dropout_is_a_sentence(kind, monkeypatch):
    _, folder, extractor, _ = kind
    monkeypatch.setattr(backbone, "DROPOUTS", {"dropout_of_another"})
    with pytest.raises(PipelineError, match=r"model has no dropout; set train\.dropout to null"):
        built(folder, extractor, dropout=0.1)


def test_spec_augment_is_the_parameters_or_the_checkpoints(kind):
    """tiny_backbone's HuBERT says false, and Whisper's and AST's classifiers have no masks."""
    name, folder, extractor, segments = kind
    batch = torch.from_numpy(np.stack(segments).astype(np.float32))
    for wanted in (None, False, True):
        model, _ = built(folder, extractor, dropout=0.0, spec_augment=wanted)
        model.config.layerdrop = 0.0
        one, two = (model.train()(batch).logits for _ in range(2))
        assert backbone.masks_itself(model) == (name == "hubert")
        assert torch.equal(one, two) == (not wanted or name != "hubert")


def test_masks_that_would_hide_nothing_are_refused(tmp_path):
    folder = tiny_backbone("hubert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=1.0)
    with pytest.raises(PipelineError, match="so that nothing would be masked"):
        built(folder, extractor, spec_augment=True)


def test_frozen_layers_have_no_trainable_parameters(kind):
    name, folder, extractor, _ = kind
    trained = {
        what: {
            n
            for n, p in built(folder, extractor, freeze=what)[0].named_parameters()
            if p.requires_grad
        }
        for what in ("nothing", "backbone", *(["convolutions"] if name != "ast" else []))
    }
    assert all(
        parameter.startswith(("classifier", "projector")) for parameter in trained["backbone"]
    )
    assert trained["backbone"] < trained["nothing"]
    if name != "ast":
        frozen = trained["nothing"] - trained["convolutions"]
        assert frozen and all("conv" in parameter for parameter in frozen)


def test_train_layers_keeps_the_pretrained_weights_of_the_first_layers(kind):
    _, folder, extractor, segments = kind
    whole, _ = built(folder, extractor)
    first, _ = built(folder, extractor, layers=1)
    assert first.config.num_hidden_layers == 1 and whole.config.num_hidden_layers == 2
    kept, given = first.state_dict(), whole.state_dict()
    body = [name for name in kept if not name.startswith(("classifier", "projector"))]
    assert len(body) < len(given) and all(torch.equal(kept[name], given[name]) for name in body)
    assert segment_logits(first, segments, 8).shape == (len(segments), 3)
    with pytest.raises(PipelineError, match="the backbone has 2 layers"):
        built(folder, extractor, layers=3)


def test_params_yaml_wins_over_the_checkpoint_s_config(tmp_path):
    folder = tiny_backbone("hubert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    surprises = {
        "use_weighted_layer_sum": True,
        "problem_type": "multi_label_classification",
        "id2label": {"0": "cat", "1": "dog"},
        "attn_implementation": "flash_attention_2",  # a package that is not installed
        "return_dict": False,
        "output_hidden_states": True,
        "auto_map": {"AutoConfig": "configuration.Mine"},
        "layerdrop": 0.5,
    }
    (folder / "config.json").write_text(json.dumps(config | surprises))
    model, _ = built(folder, load_extractor(folder))
    assert not model.config.use_weighted_layer_sum and not hasattr(model, "layer_weights")
    assert model.config.problem_type == "single_label_classification"
    assert list(model.config.id2label.values()) == LABELS
    assert model.config.layerdrop == 0.5  # the author's recipe, where params.yaml says nothing
    assert list(model.eval()(torch.randn(1, 16_000))) == ["logits"]
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/config.json").read_text())
    assert "auto_map" not in saved and "attn_implementation" not in saved
    (tmp_path / "saved/config.json").write_text(
        json.dumps(saved | {"attn_implementation": "flash_attention_2"})
    )
    assert backbone.load(tmp_path / "saved").config.use_weighted_layer_sum is False


@pytest.mark.parametrize("name", ["hubert", "whisper"])
def test_no_layer_is_dropped_from_a_weighted_sum(tmp_path, name):
    folder = tiny_backbone(name, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    key = "encoder_layerdrop" if name == "whisper" else "layerdrop"
    (folder / "config.json").write_text(json.dumps(config | {key: 1.0}))
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=1.0)
    (segment,) = extract_segments(extractor, tone(300, 1.0))
    model, _ = built(folder, extractor, weighted_layer_sum=True)
    inputs = torch.from_numpy(segment[None].astype(np.float32))
    assert model.train()(inputs).logits.shape == (1, 3)
    assert built(folder, extractor)[0].config.to_dict()[key] == 1.0


def test_quantized_weights_are_refused_in_a_sentence(tmp_path):
    folder = tiny_backbone("hubert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match="are quantized"):
        built(folder, load_extractor(folder))
    with pytest.raises(PipelineError, match="are quantized"):
        backbone.load(folder)


def test_specaugment_is_skipped_for_inputs_shorter_than_its_masks(tmp_path):
    folder = tiny_backbone("hubert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"apply_spec_augment": True, "mask_time_prob": 0.9, "hidden_dropout": 0.0}
    config |= {"feat_proj_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    config |= {"layerdrop": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    model, _ = built(folder, load_extractor(folder))
    for samples, is_masked in ((1_600, False), (8_000, True)):  # 4 and 24 frames; a mask has 10
        wave = torch.randn(2, samples)
        same = torch.equal(model.train()(wave).logits, model.eval()(wave).logits)
        assert same == (not is_masked)


def test_an_option_that_a_backbone_lacks_is_refused(tmp_path):
    folder = tiny_backbone("ast", tmp_path)
    extractor = load_extractor(folder)
    with pytest.raises(PipelineError, match="no weighted sum of layers"):
        built(folder, extractor, weighted_layer_sum=True)


def test_convolutions_are_frozen_only_where_there_are_some_with_weights(tmp_path, capsys):
    folder = tiny_backbone("ast", tmp_path / "ast")
    model, _ = built(folder, load_extractor(folder), freeze="convolutions")
    assert "no convolutional encoder: nothing is frozen" in capsys.readouterr().out
    assert all(parameter.requires_grad for parameter in model.parameters())
    folder = tiny_backbone("hubert", tmp_path / "hubert")
    for pretrained in (True, False):
        model, _ = built(folder, load_extractor(folder), freeze="convolutions")
        weights = model.base_model.feature_extractor.parameters()
        assert {weight.requires_grad for weight in weights} == {not pretrained}
        for path in folder.glob("*.safetensors"):
            path.unlink()


def test_a_model_type_without_audio_classifier_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(PipelineError, match="no audio classifier for a bert model"):
        built(tmp_path, None)


def test_logits_do_not_depend_on_the_rest_of_the_batch(kind):
    name, folder, extractor, _ = kind
    model, _ = built(folder, extractor)
    lengths = (1.0, 2.0, 1.5, 2.0, 1.0) if name == "hubert" else (2.0,) * 5
    segments = [extract_segments(extractor, tone(300, s, seed=n))[0] for n, s in enumerate(lengths)]
    together = segment_logits(model, segments, batch_size=5)
    alone = np.concatenate([segment_logits(model, [segment], 1) for segment in segments])
    assert np.abs(together - alone).max() < 1e-5


@pytest.mark.slow
def test_onnx_gives_the_same_logits_for_any_batch_and_length(kind, tmp_path):
    name, folder, extractor, segments = kind
    model, _ = built(folder, extractor)
    onnx.export(model.eval(), segments[0], tmp_path / "model.onnx")
    onnx.quantize(tmp_path / "model.onnx", tmp_path / "model_int8.onnx")
    batches = [segments[:1], segments]
    if name == "hubert":
        batches.append([extract_segments(extractor, tone(300, 1.3))[0]])
    for path, tolerance in (("model.onnx", 1e-5), ("model_int8.onnx", 5e-2)):
        session = onnx.session(tmp_path / path)
        assert session.get_inputs()[0].name == model.main_input_name
        for batch in batches:
            got = onnx.logits(session, np.stack(batch))
            assert np.abs(got - segment_logits(model, batch, 8)).max() < tolerance


@pytest.mark.slow
def test_onnx_files_contain_no_path_of_this_machine(tmp_path):
    folder = tiny_backbone("ast", tmp_path)
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=1.0)
    model, _ = built(folder, extractor)
    onnx.export(model.eval(), extract_segments(extractor, tone(300, 1.0))[0], tmp_path / "m.onnx")
    written = (tmp_path / "m.onnx").read_bytes()
    assert b".py" not in written and str(ROOT).encode() not in written


@pytest.mark.slow
def test_onnx_attention_does_not_search_for_nan(tmp_path):
    folder = tiny_backbone("ast", tmp_path)
    extractor = adapt(load_extractor(folder), PARAMS.encode, longest_seconds=1.0)
    model, _ = built(folder, extractor)
    usual = model.config._attn_implementation
    onnx.export(model.eval(), extract_segments(extractor, tone(300, 1.0))[0], tmp_path / "m.onnx")
    assert b"IsNaN" not in (tmp_path / "m.onnx").read_bytes()
    assert model.config._attn_implementation == usual != "eager"
