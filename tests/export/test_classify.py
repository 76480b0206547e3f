"""classify.py of an export: the predictions of evaluate, without PyTorch and transformers; and
the code on its card, which gives the same."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from jinja2 import Template
from scipy.special import softmax

from genrepro import audio
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.export import card, classify, onnx, program
from genrepro.model import backbone
from genrepro.model.inference import average_segments, segment_logits
from tests.support.encoded import mp3
from tests.support.samples import RATE, ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")
LABELS = ["high", "low", "middle"]
CASES = ROOT / "tests/cases"

# Nothing but the four packages that the card names, and what they need themselves.
USER = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "scipy", "pandas", "genrepro"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
import json
from pathlib import Path
from classify import Classifier

classifier = Classifier(Path(sys.argv[1]))
print(json.dumps([classifier(path) for path in sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of several lengths, rates, numbers of channels and formats."""
    folder = tmp_path_factory.mktemp("files")
    written = []
    for number, (seconds, rate, channels, suffix) in enumerate(
        [(0.3, RATE, 1, "wav"), (1.0, 22_050, 1, "wav"), (2.4, 44_100, 2, "flac"),
         (2.9, 48_000, 2, "ogg"), (9.0, RATE, 1, "wav")]
    ):  # fmt: skip
        wave = tone(300.0 * (number + 1), seconds, rate, seed=number)
        wave = np.column_stack([wave, 0.5 * wave])[:, :channels]
        written.append(folder / f"{number}.{suffix}")
        soundfile.write(written[-1], wave, rate)
    opposite = tone(500.0, 1.2, 44_100)
    soundfile.write(folder / "opposite.wav", np.column_stack([opposite, -opposite]), 44_100)
    return [*written, folder / "opposite.wav"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hubert", "ast", "whisper"])
def test_it_predicts_what_evaluate_predicts(kind, files, tmp_path):
    source = tiny_backbone(kind, tmp_path / "backbone")
    encode = PARAMS.encode.model_copy(update={"max_seconds": 3.0, "segment_seconds": 1.0})
    extractor = adapt(load_extractor(source), encode, longest_seconds=3.0)
    model, _ = backbone.build(source, LABELS, extractor, PARAMS.train, seed=0)
    export = tmp_path / "export"
    model.save_pretrained(export)
    extractor.save_pretrained(export)
    (export / "onnx").mkdir()
    segments = [extract_segments(extractor, read(path, extractor)) for path in files]
    onnx.export(model, segments[1][0], export / "onnx/model.onnx")
    program.write(extractor, export)

    command = [sys.executable, "-I", "-c", USER, str(export), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for found, each in zip(json.loads(done.stdout), segments, strict=True):
        logits = average_segments(segment_logits(model, each, 4), np.zeros(len(each), int))[0]
        expected = dict(zip(LABELS, softmax(logits.astype(float))))
        assert next(iter(found)) == max(expected, key=expected.get)
        assert found == {label: pytest.approx(p, abs=1e-3) for label, p in expected.items()}

    stereo = segments[2]  # 2.4 s at 44.1 kHz: three segments
    logits = average_segments(segment_logits(model, stereo, 4), np.zeros(len(stereo), int))[0]
    ranked = sorted(zip(softmax(logits.astype(float)), LABELS), reverse=True)
    *likely, by_onnx = card_code(export, files[2]).splitlines()
    assert [line.split()[0] for line in likely] == [label for _, label in ranked]
    assert [float(line.split()[1]) for line in likely] == pytest.approx(
        [probability for probability, _ in ranked], abs=2e-3
    )
    assert by_onnx == ranked[0][1]


def card_code(export, file) -> str:
    """What the two Python blocks of the card print, with the folder and the file filled in."""
    blocks = card.TEMPLATE.read_text().split("```python\n")[1:]
    code = "".join(block.split("```")[0] for block in blocks)
    code = Template(code).render(facts={"data": {"labels": LABELS}})
    code = code.replace("path/to/this/folder", str(export)).replace("song.mp3", str(file))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    return printed.getvalue()


def read(path, extractor) -> np.ndarray:
    samples, rate = audio.read(path, extractor.max_seconds)
    return audio.resample(samples, rate, extractor.sampling_rate)


def test_other_feature_extractors_get_no_program(tmp_path):
    from transformers import SeamlessM4TFeatureExtractor

    program.write(SeamlessM4TFeatureExtractor(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["antiphase.wav", "cut-in-the-middle.wav", "one-second.aiff", "one-second.au",
             "one-second.oga", "one-second.opus", "one-second.wave"]
)  # fmt: skip
def test_it_reads_files_as_the_pipeline_does(name):
    theirs, rate = audio.read(CASES / name, 3.0)
    found = classify.read(str(CASES / name), {"max_seconds": 3.0, "sampling_rate": RATE})
    np.testing.assert_allclose(found, audio.resample(theirs, rate, RATE), atol=1e-5)


@pytest.mark.parametrize("header", [True, False])
def test_it_refuses_an_mp3_that_it_would_read_in_part(tmp_path, header):
    path = mp3(tmp_path / "a.mp3", tone(300, 2.0, 22_050), 22_050, "variable", header, 20_000)
    if header:
        theirs, rate = audio.read(path, 3.0)
        found = classify.read(str(path), {"max_seconds": 3.0, "sampling_rate": rate})
        np.testing.assert_allclose(found, theirs, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="a part of it"):
            classify.read(str(path), {"max_seconds": 3.0, "sampling_rate": RATE})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one-second.m4a", "soundfile cannot read it"),
        ("web-page.mp3", "soundfile cannot read it"),
        ("vbr-no-header.mp3", "a part of it"),
        ("chained.ogg", "a part of it"),
        ("data-size-zero.wav", "at least 0.1 s"),
        ("missing.wav", "there is no such file"),
    ],
)
def test_what_it_cannot_read_is_one_sentence(name, words):
    with pytest.raises(ValueError, match=words) as raised:
        classify.read(str(CASES / name), {"max_seconds": 3.0, "sampling_rate": RATE})
    assert str(raised.value).startswith(str(CASES / name)) and "\n" not in str(raised.value)
