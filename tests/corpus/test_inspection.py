"""What an earlier run found in clips is not looked for again."""

import pytest
import soundfile

from genrepro.corpus import inspection
from genrepro.corpus.inspection import Inspected, inspect_clips
from tests.support.samples import RATE, tone


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Three clips and a broken one, and a list of those that are decoded."""
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", tone(300.0 * (number + 1), 0.5), RATE)
    (tmp_path / "9.wav").write_text("no sound")
    decoded, original = [], inspection.inspect_clip

    def counting(path):
        decoded.append(path.stem)
        return original(path)

    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    monkeypatch.setattr(inspection, "inspect_clip", counting)
    return tmp_path, decoded


def shown(results) -> list:
    return [
        (found.inspection, found.fingerprint.tolist()) if isinstance(found, Inspected) else found
        for found in results
    ]


def test_only_new_contents_are_decoded_and_the_results_are_the_same(clips):
    folder, decoded = clips
    paths, kept = sorted(folder.glob("*.wav")), folder / "kept" / "earlier.parquet"
    first = shown(inspect_clips(paths, kept))
    assert decoded == ["0", "1", "2", "9"]
    paths[1].rename(folder / "1b.wav")  # another name, the same content
    soundfile.write(folder / "3.wav", tone(4000.0, 0.5), RATE)
    decoded.clear()
    paths = [folder / f"{stem}.wav" for stem in ("0", "1b", "2", "3", "9")]
    again = shown(inspect_clips(paths, kept))
    assert decoded == ["3", "9"]  # and what cannot be read, which is not kept
    assert again[:3] + again[4:] == first
    decoded.clear()
    assert shown(inspect_clips(paths, None)) == again
    assert decoded == ["0", "1b", "2", "3", "9"]


def test_a_damaged_file_of_earlier_results_is_ignored(clips):
    folder, decoded = clips
    kept = folder / "earlier.parquet"
    kept.write_bytes(b"PAR1 and no more")
    assert len(inspect_clips(sorted(folder.glob("?.wav")), kept)) == 4
    decoded.clear()
    inspect_clips(sorted(folder.glob("?.wav")), kept)
    assert decoded == ["9"]
