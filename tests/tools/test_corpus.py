"""tools.corpus: a corpus described before any run, and nothing of it copied."""

from __future__ import annotations

import shutil
import sys

import pytest
import soundfile

from genrepro.core.errors import PipelineError
from genrepro.core.params import Data
from genrepro.corpus import gather
from tests.support.samples import RATE, ROOT, tone
from tools import corpus as tool
from tools import figures

CASES = ROOT / "tests/cases"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two labels with clips, one that lost all of them, and files that are no audio."""
    root = tmp_path_factory.mktemp("corpus") / "Data" / "sounds"
    for label, names in {
        "rain": ["one-second.au", "one-second.m4a", "antiphase.wav", "cut-in-the-middle.wav"],
        "wind": ["one-second.opus", "chained.ogg", "zeros-before.mp3", "kits.csv"],
        "fog": ["web-page.mp3"],
    }.items():
        (root / label).mkdir(parents=True)
        for name in names:
            shutil.copy(CASES / name, root / label)
    (root / "wind" / "empty.wav").touch()
    return root.parent


@pytest.fixture(scope="module")
def described(folder, tmp_path_factory):
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    data = Data(corpus=str(folder), facts=None, name_pattern=None, corrections=None)
    found = gather.survey(data, tmp_path_factory.mktemp("look") / "raw", links=True)
    assert all(clip.item.path.is_symlink() for clip in found.clips)
    monkeypatch.undo()
    return found


def test_every_fact_about_a_corpus_is_printed(described):
    lines = tool.description(described).splitlines()
    assert lines[0] == "Data: 7 clips of 2 labels, 0.2 minutes; 2 files skipped"
    text = "\n".join(lines)
    assert "layout    sounds/<label>/<clip> (7 clips, e.g. sounds/" in text
    assert "rates     22050 Hz (6 clips), 24000 Hz (1 clip)" in text
    assert "channels  1 (6 clips), 2 (1 clip)" in text
    assert "groups    none known" in text
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["fog"] == ["fog", "0", "1", "0", "–", "–", "–", "0.0"]
    assert rows["wind"][:4] == ["wind", "3", "1", "0"]
    assert "1  is a web page, not audio: the download failed  e.g. sounds/fog/web-page.mp3" in text
    assert "1  empty file " in text
    assert "1  holds 1.0 s of the 3.0 s that its header promises" in text
    assert "its channels cancel out" in text
    assert "not audio, by ending: 1 .csv" in text
    assert "warning: label 'fog': 1 of 1 files were skipped" in text


def test_groups_and_splits_are_recognised_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    for split in ("train", "dev"):
        for label in ("cat", "dog"):
            path = tmp_path / "corpus" / split / label / f"ada-{split}{label}.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, tone(440, 0.3), RATE)
    data = Data(
        corpus=str(tmp_path / "corpus"),
        facts=None,
        name_pattern="^(?P<group>[a-z]+)-",
        corrections=None,
    )
    text = tool.description(gather.survey(data, tmp_path / "raw", links=True))
    assert "layout    <split>/<label>/<clip> (4 clips" in text
    assert "groups    1, of 4 clips" in text
    assert "splits    validation (2 clips), train (2 clips)" in text


def test_the_picture_shows_labels_and_lengths(described, tmp_path):
    figures.use_style()
    figures.save(tool.picture(described), tmp_path / "a.png")
    figures.save(tool.picture(described), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    labels = [each.get_text() for each in tool.picture(described).axes[0].get_yticklabels()]
    assert labels == ["fog", "rain", "wind"] or labels == ["fog", "wind", "rain"]


def test_the_command_draws_a_picture_and_ends_as_the_run_would(folder, in_tmp, monkeypatch, capsys):
    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    shutil.copy(ROOT / "params.yaml", in_tmp)
    monkeypatch.setattr(sys, "argv", ["tools.corpus", str(folder), "picture.png"])
    tool.main()
    assert capsys.readouterr().out.endswith("picture: picture.png\n")
    assert (in_tmp / "picture.png").stat().st_size > 10_000
    monkeypatch.setattr(sys, "argv", ["tools.corpus", str(folder / "sounds" / "fog")])
    with pytest.raises(PipelineError, match="holds no usable clip"):
        tool.main()
    assert "1 file skipped" in capsys.readouterr().out
    assert not (in_tmp / "corpus.png").exists()
