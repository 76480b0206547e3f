"""classify.py of an export: the predictions of evaluate, without PyTorch and transformers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from scipy.special import softmax

from genrepro import audio
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.export import onnx, program
from genrepro.model import backbone
from genrepro.model.inference import average_segments, segment_logits
from tests.support.samples import RATE, ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")
LABELS = ["high", "low", "middle"]

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
    return written


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


def read(path, extractor) -> np.ndarray:
    samples, rate = audio.read(path, extractor.max_seconds)
    return audio.resample(samples, rate, extractor.sampling_rate)


def test_other_feature_extractors_get_no_program(tmp_path):
    from transformers import SeamlessM4TFeatureExtractor

    program.write(SeamlessM4TFeatureExtractor(), tmp_path)
    assert not list(tmp_path.iterdir())
