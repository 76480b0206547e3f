"""tools.predict: files of any length as evaluate would predict them, and unreadable ones."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from genrepro import audio
from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.export import onnx
from genrepro.model import backbone
from genrepro.model.inference import average_segments, segment_logits
from tests.support.samples import RATE, ROOT, tiny_backbone, tone
from tools import predict, unlike
from tools.classifier import SILENCE, Classifier, _passages
from tools.embeddings import run_segments

LABELS = ["high", "low", "middle"]
CASES = ROOT / "tests/cases"
PARAMS = load(ROOT / "params.yaml")


def write_export(folder, kind: str = "hubert"):
    """An exported model with random weights, for clips of 3 s in segments of 1 s."""
    source = tiny_backbone(kind, folder.parent / f"{kind}-backbone")
    encode = PARAMS.encode.model_copy(update={"max_seconds": 3.0, "segment_seconds": 1.0})
    extractor = adapt(load_extractor(source), encode, longest_seconds=3.0)
    model, _ = backbone.build(source, LABELS, extractor, PARAMS.train, seed=0)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["hubert", "ast", "whisper"])
def export(request, tmp_path_factory):
    return write_export(tmp_path_factory.mktemp(request.param) / "export", request.param)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("one") / "export")


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.4, 3.0, 3.05])
def test_a_clip_is_predicted_as_in_the_evaluate_stage(export, tmp_path, seconds):
    soundfile.write(tmp_path / "a.wav", tone(440, seconds, 22_050), 22_050)
    classifier = Classifier(export)
    prediction = classifier.file(tmp_path / "a.wav")
    extractor = load_extractor(export)
    samples, rate = audio.read(tmp_path / "a.wav", extractor.max_seconds)
    segments = extract_segments(extractor, audio.resample(samples, rate, RATE))
    logits = segment_logits(backbone.load(export), segments, 16)
    expected = average_segments(logits, np.zeros(len(segments), int))[0].astype(float)
    expected = np.exp(expected) / np.exp(expected).sum()
    got = [prediction.probabilities[label] for label in classifier.labels]
    assert got == pytest.approx(expected, abs=1e-6)
    assert prediction.label == LABELS[expected.argmax()]
    assert len(prediction.spans) == len(segments)
    assert prediction.spans[-1][1] == pytest.approx(min(seconds, 3.0), abs=1e-3)


def test_a_long_file_is_processed_to_its_end(hubert, tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(440, 7.5), RATE)
    prediction = Classifier(hubert).file(tmp_path / "long.wav")
    assert prediction.spans[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 6.5]
    assert (prediction.spans[:, 1] - prediction.spans[:, 0]).tolist() == [1.0] * 8
    assert prediction.over_time.shape == (8, 3)
    assert prediction.over_time.sum(axis=1) == pytest.approx(np.ones(8))
    assert (
        list(prediction.probabilities.values()) == sorted(prediction.probabilities.values())[::-1]
    )


def test_passages_cover_a_stream_whatever_its_blocks():
    samples = np.arange(1000, dtype=np.float32)
    for size in (1, 7, 300, 1000):
        blocks = [samples[start : start + size] for start in range(0, 1000, size)]
        cut = list(_passages(blocks, 100, 3.0, 2.0, 2.0))
        assert [start for start, _ in cut] == [0, 2, 4, 6, 8]
        assert [len(passage) for _, passage in cut] == [200] * 5
        assert all(passage[0] == 100 * start for start, passage in cut)
        cut = list(_passages(blocks, 100, 3.5, 1.5, 1.0))  # they overlap by what segments do
        assert [start for start, _ in cut] == [0, 3, 6, 8.5]
        assert [len(passage) for _, passage in cut] == [350, 350, 350, 150]
        cut = list(_passages(blocks, 100, 3.0, 3.0, 3.0))  # the rest of 1 s begins 2 s early
        assert [start for start, _ in cut] == [0, 3, 6, 7]
    assert [len(p) for _, p in _passages([samples[:310]], 100, 3.0, 2.0, 2.0)] == [300]
    assert list(_passages([samples[:5]], 100, 3.0, 2.0, 2.0)) == []


def test_a_long_file_has_as_many_segments_as_fit():
    """Three minutes in segments of 4 s are 45, though clips are cut at 30 s."""
    cut = list(_passages([np.zeros(18_000, np.float32)], 100, 30.0, 4.0, 4.0))
    assert sum(-(-len(passage) // 400) for _, passage in cut) == 45


def test_silence_is_no_label_and_other_sounds_may_be_unlike_the_training_clips(hubert, tmp_path):
    silent, partly = np.zeros(2 * RATE, np.float32), tone(440, 2.0)
    partly[RATE:] = 0
    for name, wave in (("silent", silent), ("partly", partly)):
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE)
    plain = Classifier(hubert)
    found = plain.file(tmp_path / "partly.wav")
    assert found.silent.tolist() == [False, True] and found.note is None
    assert "unlikeness" not in found.described(plain.labels)
    segments = [tone(440 + n, 1.0, seed=n).astype(np.float16) for n in range(30)]
    _, profiles = run_segments(backbone.load(hubert), segments, 8)
    reference = unlike.Reference.fit({}, profiles[:20], profiles[20:], np.arange(10))
    classifier = Classifier(hubert, reference=reference)
    far = classifier.file(tmp_path / "silent.wav")
    assert far.note == SILENCE and far.described(LABELS)["silent"]
    assert predict.table([predict.described(classifier, tmp_path / "silent.wav")]).endswith(SILENCE)
    near = classifier.file(tmp_path / "partly.wav")
    assert near.probabilities == pytest.approx(found.probabilities, abs=1e-6)
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    noise = predict.described(classifier, tmp_path / "noise.wav")
    assert noise["unlikeness"]["unlike"] and noise["unlikeness"]["distance"] > 1
    assert predict.table([noise]).endswith("(unlike anything this model was trained on)")
    soundfile.write(tmp_path / "like.wav", tone(445.5, 1.0, seed=99), RATE)
    assert not predict.described(classifier, tmp_path / "like.wav")["unlikeness"]["unlike"]


@pytest.mark.slow
def test_onnx_is_used_if_it_was_found_to_agree(hubert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "export").symlink_to(hubert)
    soundfile.write("a.wav", tone(440, 2.4), RATE)
    model, example = backbone.load(hubert), tone(440, 1.0)
    (hubert / "onnx").mkdir()
    onnx.export(model, example, hubert / "onnx/model.onnx")
    by_torch = Classifier().file(tmp_path / "a.wav").probabilities
    (tmp_path / "metrics").mkdir()
    agreement = {"onnx": {"same_predictions": 1.0, "largest_logit_difference": 1e-6}}
    (tmp_path / "metrics/export.json").write_text(json.dumps(agreement))
    monkeypatch.setattr(backbone, "load", lambda folder: pytest.fail("PyTorch was used"))
    by_onnx = Classifier().file(tmp_path / "a.wav").probabilities
    assert by_onnx == pytest.approx(by_torch, abs=1e-5)


def test_out_of_gpu_memory_names_a_way_around(hubert, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("genrepro.model.inference.segment_logits", full)
    soundfile.write(tmp_path / "a.wav", tone(440, 1.0), RATE)
    with pytest.raises(PipelineError, match="put CUDA_VISIBLE_DEVICES= before"):
        Classifier(hubert).file(tmp_path / "a.wav")


@pytest.mark.slow
def test_files_and_folders_as_json_with_errors(hubert, tmp_path):
    (tmp_path / "album/deep").mkdir(parents=True)
    soundfile.write(tmp_path / "album/deep/a.flac", tone(440, 1.5), RATE)
    soundfile.write(tmp_path / "album/b.ogg", tone(880, 0.5), RATE)
    (tmp_path / "album/cover.txt").write_text("no sound")
    (tmp_path / "album/.DS_Store").write_text("no sound")
    shutil.copy(tmp_path / "album/b.ogg", tmp_path / "album/unnamed")
    shutil.copy(CASES / "antiphase.wav", tmp_path / "album/z.wave")
    shutil.copy(CASES / "one-second.m4a", tmp_path / "album/y.m4a")
    (tmp_path / "album/c.wav").write_bytes(b"RIFF, but that is all")
    (tmp_path / "album/folder.wav").mkdir()
    (tmp_path / "album/no UTF-8 \udcff.wav").write_bytes(b"")
    command = [sys.executable, "-m", "tools.predict", str(tmp_path / "album"), "--json"]
    done = subprocess.run(
        [*command, "--model", str(hubert)], cwd=ROOT, capture_output=True, text=True
    )
    results = json.loads(done.stdout)
    names = [result["file"].rsplit("/")[-1] for result in results]
    sounds = ["b.ogg", "c.wav", "a.flac", "no UTF-8 \udcff.wav", "unnamed", "y.m4a", "z.wave"]
    assert names == sounds
    assert "is text, not audio" in results[1]["error"]
    assert results[2]["segments"][-1]["end"] == pytest.approx(1.5)
    assert sum(results[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "skipped, since they are not audio: 1 .txt, 1 hidden",
        "error: 2 of 7 files could not be classified.",
    ]
    assert results[4]["probabilities"] == results[0]["probabilities"]
    assert results[5]["seconds"] == pytest.approx(1.0, abs=0.03)
    assert "cancel out" in results[6]["remark"]
    assert "cancel out" in predict.table(results)
    assert "is text, not audio" in predict.table(results)


@pytest.mark.slow
def test_many_files_in_several_processes_give_the_same(hubert, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for number, path in enumerate(paths):
        soundfile.write(path, tone(300 * (number + 1), 1.2), RATE)
    one = predict.classify(paths, hubert)
    monkeypatch.setattr(predict, "MANY", 2)
    monkeypatch.setenv("GENREPRO_WORKERS", "2")
    many = predict.classify(paths, hubert)
    assert [each["file"] for each in many] == [str(path) for path in paths]
    for a, b in zip(one, many):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=2e-6)


def test_missing_files_and_models_are_reported(in_tmp, hubert):
    with pytest.raises(PipelineError, match=r"export/ contains no model: type `dvc repro`"):
        Classifier()
    with pytest.raises(PipelineError, match=r"nowhere.wav does not exist"):
        predict.sound_files([in_tmp / "nowhere.wav"])
    (in_tmp / "empty").mkdir()
    with pytest.raises(PipelineError, match="empty contains no sound file"):
        predict.sound_files([in_tmp / "empty"])
    foreign = tiny_backbone("hubert", in_tmp / "foreign")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a"}}))
    with pytest.raises(PipelineError, match="was not exported by this pipeline"):
        Classifier(foreign)
