"""tools.page: the page's folder, its arithmetic beside that of Python, and the page in Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from huggingface_hub import ModelCardData
from transformers import ASTFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from genrepro import audio
from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.export import classify as exported
from genrepro.export import onnx, program
from genrepro.model import backbone
from tests.support.agreement import answer, classify, ready, served
from tests.support.browser import CHROMIUM, Browser
from tests.support.encoded import encode
from tests.support.fake_package import FAKE, FAKE_PACKAGE, tgz
from tests.support.loopback_publish import space_problems
from tests.support.samples import RATE, ROOT, tone
from tests.tools.test_predict import LABELS, write_export
from tools import page
from tools.classifier import Classifier, _passages

CASES = ROOT / "tests/cases"
PARAMS = load(ROOT / "params.yaml")
NODE = shutil.which("node")


def write_results(folder: Path, labels: list[str]) -> None:
    """What the page takes from the results beside the model."""
    (folder / "metrics/plots").mkdir(parents=True)
    (folder / "metrics/data.json").write_text('{"corpus": {"name": "tones", "title": null}}')
    measured = "accuracy,low,high,clips,confidence\n0.83,0.745,0.891,100,0.9\n"
    (folder / "metrics/plots/accuracy.csv").write_text(measured)
    data = ModelCardData(model_name="tiny-tones", license="cc0-1.0", datasets=["ada/tones"])
    text = f"---\n{data.to_yaml()}\n---\n\n# tiny-tones\n"
    (folder / "export/README.md").write_text(text)
    config = {"id2label": dict(enumerate(labels))}
    if not (folder / "export/config.json").exists():
        (folder / "export/config.json").write_text(json.dumps(config))


@pytest.fixture
def run_folder(in_tmp, monkeypatch) -> Path:
    """Results of a run, as far as the page reads them, and a small package for onnxruntime's."""
    (in_tmp / "export/onnx").mkdir(parents=True)
    write_results(in_tmp, ["high", "low"])
    settings = {"feature_extractor_type": "ASTFeatureExtractor", "max_seconds": 30.0}
    (in_tmp / "export/preprocessor_config.json").write_text(json.dumps(settings))
    (in_tmp / "export/onnx/model.onnx").write_bytes(b"onnx")
    np.save(in_tmp / "export/onnx/mel_filters.npy", np.arange(6.0).reshape(3, 2))
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_tmp / "cache"))
    monkeypatch.setattr(page, "PACKAGE", FAKE_PACKAGE)
    (in_tmp / "package.tgz").write_bytes(tgz(FAKE))
    return in_tmp


def build(monkeypatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["page", *words])
    page.main()


def test_the_folder_holds_the_page_the_model_and_the_runtime(run_folder, monkeypatch):
    build(monkeypatch, "site/page", "--onnxruntime", "package.tgz")
    folder = run_folder / "site/page"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    sources = {path.name for path in page.SOURCES.iterdir()}
    runtime = {"onnxruntime/ort.js", "onnxruntime/ort.wasm"}
    assert files == sources | runtime | {"model.onnx", "settings.json", "mel_filters.bin"}
    assert (folder / "model.onnx").read_bytes() == b"onnx"
    assert np.frombuffer((folder / "mel_filters.bin").read_bytes(), "<f8").tolist() == [
        *map(float, range(6))
    ]
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["labels"] == ["high", "low"]
    assert (
        "of 100 test clips it got 83% right, with a 90% interval of 74% to 89%" in settings["about"]
    )
    build(monkeypatch, "site/page")  # again, with the package from the cache


def test_what_is_no_page_is_not_replaced(run_folder, monkeypatch):
    (run_folder / "thesis").mkdir()
    (run_folder / "thesis/last.tex").write_text("")
    with pytest.raises(PipelineError, match="holds something else"):
        build(monkeypatch, "thesis", "--onnxruntime", "package.tgz")
    assert (run_folder / "thesis/last.tex").exists()


def test_another_package_is_refused_and_not_kept(run_folder, monkeypatch):
    for content in (tgz(FAKE | {"dist/a.wasm": b"other"}), tgz({}), b"<html>", b""):
        (run_folder / "package.tgz").write_bytes(content)
        with pytest.raises(PipelineError, match=r"package.tgz is not onnxruntime-web 1"):
            build(monkeypatch, "--onnxruntime", "package.tgz")
    assert not page.cache().exists()


def test_the_package_is_downloaded_once(run_folder, monkeypatch):
    with served(run_folder) as address:
        monkeypatch.setattr(page, "ADDRESS", f"{address}package.tgz")
        build(monkeypatch)
        monkeypatch.setattr(page, "ADDRESS", f"{address}missing.tgz")
        build(monkeypatch)
        (page.cache() / "ort.js").write_text("changed")
        with pytest.raises(PipelineError, match=r"missing.tgz cannot be downloaded .*npm pack"):
            build(monkeypatch)


def test_a_model_that_the_page_cannot_run_is_one_sentence(run_folder, monkeypatch):
    settings = run_folder / "export/preprocessor_config.json"
    settings.write_text('{"feature_extractor_type": "SeamlessM4TFeatureExtractor"}')
    with pytest.raises(PipelineError, match="cannot compute the features of SeamlessM4T"):
        page.collect({})
    (run_folder / "export/onnx/model.onnx").unlink()
    with pytest.raises(PipelineError, match=r"export.onnx=true"):
        page.collect({})


def test_a_space_is_static_and_links_to_the_model(run_folder):
    text = page.readme("ada/tiny-tones", ("https://example.org/ada/genrepro", "0" * 40))
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["sdk"] == "static" and front["app_file"] == "index.html"
    assert front["models"] == ["ada/tiny-tones"] and front["datasets"] == ["ada/tones"]
    assert front["license"] == "cc0-1.0"
    assert not space_problems(text)
    assert "(https://huggingface.co/ada/tiny-tones)" in text
    assert "[genrepro](https://example.org/ada/genrepro) at `00000" in text
    settings = json.loads(page.collect({}, "ada/tiny-tones")["settings.json"])
    assert settings["origin"][0]["link"] == "https://huggingface.co/ada/tiny-tones"
    assert "huggingface" not in page.collect({})["settings.json"].decode()


# The page's arithmetic, in Node. Each case is called with its arguments; waves travel as lists.
SCRIPT = """
import * as sound from "./sound.mjs";
import { readFileSync } from "node:fs";
const array = ({ floats, bytes }) => (floats ? Float32Array.from(floats) : Uint8Array.from(bytes));
const revived = (key, each) => (each?.floats || each?.bytes ? array(each) : each);
const calls = JSON.parse(readFileSync("calls.json", "utf8"), revived);
const results = calls.map(([name, ...words]) => sound[name](...words));
console.log(JSON.stringify(results, (key, each) => (ArrayBuffer.isView(each) ? [...each] : each)));
"""


@pytest.fixture
def javascript(tmp_path):
    if NODE is None:
        pytest.skip("node is not installed")

    def call(*calls: tuple) -> list:
        """The results of functions of sound.js, each called as (name, argument, …)."""
        shutil.copyfile(page.SOURCES / "sound.js", tmp_path / "sound.mjs")
        (tmp_path / "script.mjs").write_text(SCRIPT)
        (tmp_path / "calls.json").write_text(json.dumps(calls, default=_floats))
        done = subprocess.run([NODE, "script.mjs"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def _floats(value: object) -> object:
    if isinstance(value, bytes):
        return {"bytes": list(value)}
    assert isinstance(value, np.ndarray)
    return {"floats": value.tolist()}


@pytest.mark.parametrize(
    "extractor",
    [
        Wav2Vec2FeatureExtractor(),
        ASTFeatureExtractor(num_mel_bins=32, max_length=1024),
        WhisperFeatureExtractor(),
    ],
    ids=["waveform", "ast", "whisper"],
)
def test_the_page_computes_the_features_of_python(extractor, javascript):
    encode = PARAMS.encode.model_copy(update={"max_seconds": 3.0, "segment_seconds": 1.0})
    adapted = adapt(extractor, encode, longest_seconds=3.0)
    waves = [tone(300 * (n + 1), seconds, seed=n) for n, seconds in enumerate((0.3, 2.45))]
    settings = json.loads(adapted.to_json_string())
    mel = getattr(adapted, "mel_filters", np.zeros(0)).ravel()
    cut = javascript(*[("segments", wave, settings) for wave in waves])
    pieces = [np.array(piece, np.float32) for each in cut for piece in each]
    found = javascript(*[("features", piece, settings, list(mel)) for piece in pieces])
    expected = [each for wave in waves for each in extract_segments(adapted, wave)]
    for each, theirs in zip(found, expected, strict=True):
        got = np.array(each["data"]).reshape(each["shape"])
        np.testing.assert_allclose(got, theirs.astype(np.float64), atol=2e-3)
        assert (got == theirs).mean() > 0.9  # but for roundings that tip over


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_the_page_resamples_as_soxr_does(rate, javascript):
    wave = np.random.default_rng(0).normal(0, 0.1, rate // 4).astype(np.float32)
    (found,) = javascript(("resample", wave, rate, RATE))
    expected = audio.resample(wave, rate, RATE)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found[5:], expected[5:], atol=2e-4)


def test_the_page_mixes_rounds_and_cuts_as_python_does(javascript):
    values = np.random.default_rng(0).normal(0, 1, 4000).astype(np.float32)
    values = np.concatenate([values, values * 2.0**-15, values * 2.0**-24, [0.0, 1 + 2.0**-11]])
    wave = tone(300, 7.5)
    stereo = np.column_stack([wave, 0.5 * wave])
    stereo[:40_000, 1] = -stereo[:40_000, 0]
    settings = {"max_seconds": 3.0, "segment_seconds": 1.0}
    lengths = (0.5, 3.0, 3.05, 3.2, 7.5)
    halves, mono, *passages = javascript(
        ("halved", values.astype(np.float32)),
        ("mixed", [stereo[:, 0], stereo[:, 1]]),
        *[("passages", wave[: round(s * RATE)], RATE, settings) for s in lengths],
    )
    assert halves == values.astype(np.float32).astype(np.float16).tolist()
    np.testing.assert_allclose(mono, exported.mixed(stereo), atol=1e-6)
    for seconds, found in zip(lengths, passages, strict=True):
        expected = list(_passages([wave[: round(seconds * RATE)]], RATE, 3.0, 1.0, 1.0))
        assert [each["start"] for each in found] == [start for start, _ in expected]
        assert [len(each["wave"]) for each in found] == [len(samples) for _, samples in expected]


def test_the_page_reads_the_rate_in_a_files_header(tmp_path, javascript):
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"a.{suffix}", tone(300, 0.5, 32_000), 32_000)
    encode(tmp_path / "b.ogg", tone(300, 0.5, 32_000), 32_000, "flac", "ogg", {}, None)
    names = ["one-second.m4a", "one-second.wave", "vbr-no-header.mp3", "zeros-before.mp3"]
    names += ["cut-in-the-middle.mp3", "one-second.oga", "one-second.opus", "web-page.mp3"]
    files = [*sorted(tmp_path.glob("[ab].*")), *(CASES / name for name in names)]
    contents = [file.read_bytes() for file in files]
    found = javascript(
        *[("fileRate", content) for content in contents],
        *[("fileRate", content[:30]) for content in contents],
        ("fileRate", b"\x1a\x45\xdf\xa3" + bytes(60)),
    )
    read = [22_050, 22_050, 22_050, 22_050, 22_050, 22_050, 48_000, None]
    assert found[: len(files)] == [32_000] * 5 + read
    assert found[-1] == 48_000


def kept_runtime() -> dict[str, bytes]:
    """onnxruntime-web, if `python -m tools.page` has ever put it in its cache on this machine."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    if not page.cache().exists():
        pytest.skip("onnxruntime-web is not there: `python -m tools.page` downloads it")
    return page.runtime(None)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sounds")
    for number, (seconds, rate, channels, suffix) in enumerate(
        [(0.3, RATE, 1, "wav"), (1.0, 22_050, 1, "flac"), (2.4, 44_100, 2, "ogg"),
         (2.9, 48_000, 2, "wav"), (7.5, 44_100, 1, "flac")]
    ):  # fmt: skip
        wave = tone(300.0 * (number + 1), seconds, rate, seed=number)
        wave = np.column_stack([wave, 0.5 * wave])[:, :channels]
        soundfile.write(folder / f"{number}.{suffix}", wave, rate)
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hubert", "ast", "whisper"])
def test_the_page_predicts_offline_what_evaluate_predicts(kind, sounds, in_tmp):
    runtime = kept_runtime()
    export = write_export(in_tmp / "export", kind)
    (export / "onnx").mkdir()
    extractor = load_extractor(export)
    example = extract_segments(extractor, tone(300, 1.0))[0]
    onnx.export(backbone.load(export), example, export / "onnx/model.onnx")
    program.write(extractor, export)
    write_results(in_tmp, LABELS)
    classifier = Classifier(export)
    page.write(in_tmp / "page", page.collect(runtime))
    with served(in_tmp / "page") as address, Browser() as browser:
        ready(browser, address)
        for path in sounds:
            expected = classifier.file(path)
            said, found = classify(browser, path)
            assert next(iter(found)) == expected.label and expected.label in said
            assert found == pytest.approx(expected.probabilities, abs=1e-3)
            segments = browser.js("document.querySelectorAll('#segments button').length")
            assert segments == len(expected.spans)
        if kind == "hubert":
            _actions(browser)
        assert browser.errors == []
        assert all(each.startswith((address, "blob:", "data:")) for each in browser.requests)


STOP = """new Promise(done => setTimeout(() => {  // after a beep; it stops by itself after 3 s
  document.querySelector('#status').textContent = 'waiting';
  document.querySelector('#record').click();
  done();
}, 1500))"""


def _actions(browser: Browser) -> None:
    """What the page answers to files that are none, and to a recording, by keyboard."""
    said, found = classify(browser, CASES / "web-page.mp3")
    assert said == "This browser cannot decode web-page.mp3: try WAV, FLAC, MP3 or Ogg."
    assert not found
    browser.js("document.querySelector('#record').focus()")
    browser.press("Enter")
    browser.wait("document.querySelector('#record').textContent === 'Stop'")
    browser.js(STOP)
    said, found = answer(browser)
    assert said.startswith("Recording, 0:0") and set(found) == set(LABELS)


@pytest.mark.slow
def test_the_browser_refuses_every_other_server(run_folder):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    page.write(run_folder / "page", page.collect({}))
    with (
        served(run_folder / "page") as address,
        served(run_folder) as other,
        Browser() as browser,
    ):
        browser.open(address, "document.readyState === 'complete'")
        sent = browser.js(f"fetch('{other}', {{mode: 'no-cors'}}).then(() => 1, () => 0)")
        assert sent == 0
