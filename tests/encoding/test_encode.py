"""The stage on a corpus that grows: what is known by content is not encoded again."""

import csv

import pytest
import soundfile

from genrepro.core.files import sha256
from genrepro.core.params import load
from genrepro.core.paths import BACKBONE, CLIPS, ENCODED, RAW
from stages import encode
from tests.support.samples import RATE, ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")


@pytest.fixture
def home(in_tmp, monkeypatch):
    """A folder before encode, with a backbone and what the keys depend on."""
    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    monkeypatch.setattr(encode, "SHARD_CLIPS", 4)
    for name in ("dvc.yaml", "genrepro", "stages"):
        (in_tmp / name).symlink_to(ROOT / name)
    BACKBONE.parent.mkdir()
    tiny_backbone("ast", BACKBONE)
    return in_tmp


def corpus(*pitches: int) -> None:
    """data/raw with one clip per pitch, named by it, and data/clips.csv."""
    RAW.mkdir(parents=True, exist_ok=True)
    with CLIPS.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "path", "seconds", "sha256"))
        for pitch in sorted(pitches):
            path = RAW / f"{pitch:04d}.wav"
            if not path.exists():
                soundfile.write(path, tone(pitch, 0.3), RATE)
            writer.writerow((path.stem, path, 0.3, sha256(path)))


def encoded(monkeypatch) -> tuple[list[str], dict[str, bytes]]:
    """The clips that are decoded, and the bytes of data/encoded afterwards."""
    decoded, original = [], encode._segments
    monkeypatch.setattr(
        encode, "_segments", lambda made, path: decoded.append(path.stem) or original(made, path)
    )
    encode._encoded_before.cache_clear()  # a process of its own would have none
    encode._extractor.cache_clear()
    encode.main(PARAMS)
    monkeypatch.setattr(encode, "_segments", original)
    return decoded, {path.name: path.read_bytes() for path in sorted(ENCODED.iterdir())}


def test_only_new_clips_are_encoded_and_the_bytes_are_those_of_a_first_run(home, monkeypatch):
    corpus(200, 300, 400, 500, 600)
    assert encoded(monkeypatch)[0] == ["0200", "0300", "0400", "0500", "0600"]
    corpus(100, 200, 300, 500, 600, 700)  # two more, and one is gone
    decoded, grown = encoded(monkeypatch)
    assert decoded == ["0100", "0700"]
    assert encoded(monkeypatch) == ([], grown)
    (home / ".resume/encode.made.json").unlink()
    decoded, first = encoded(monkeypatch)
    assert len(decoded) == 6 and first == grown


def test_a_changed_clip_or_output_is_encoded_again(home, monkeypatch):
    corpus(200, 300, 400)
    _, before = encoded(monkeypatch)
    soundfile.write(RAW / "0300.wav", tone(310, 0.3), RATE)
    corpus(200, 300, 400)
    decoded, after = encoded(monkeypatch)
    assert decoded == ["0300"] and after != before
    for file in ENCODED.glob("*.arrow"):  # as after `dvc checkout` of another experiment
        file.write_bytes(before[file.name])
    assert encoded(monkeypatch) == (["0200", "0300", "0400"], after)


def test_other_parameters_encode_everything_again(home, monkeypatch):
    corpus(200, 300)
    encoded(monkeypatch)
    shorter = PARAMS.encode.model_copy(update={"segment_seconds": 0.2})
    monkeypatch.setattr(f"{__name__}.PARAMS", PARAMS.model_copy(update={"encode": shorter}))
    assert encoded(monkeypatch)[0] == ["0200", "0300"]
