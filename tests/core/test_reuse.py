"""What is known of single clips counts only while all else that decides their bytes is the same."""

import shutil
from pathlib import Path

import pytest

from genrepro.core import params, paths, resume, reuse
from tests.support.samples import ROOT

PIPELINE = """
stages:
  encode:
    deps: [code.py, data/clips.csv]
    params: [encode]
"""
CLIPS = (Path("data/clips.csv"),)
OUTPUT = Path("data/encoded")
SOUNDS = {"a": "1" * 64, "b": "2" * 64}


@pytest.fixture
def given(in_tmp):
    """The parameters of a folder with code, clips and an output."""
    shutil.copy(ROOT / "params.yaml", ".")
    paths.PIPELINE.write_text(PIPELINE)
    OUTPUT.mkdir(parents=True)
    for path in ("code.py", "data/clips.csv", "data/encoded/shard"):
        Path(path).write_text("one")
    return params.load()


def key(given) -> str:
    return resume.key_of("encode", given, {}, without=CLIPS)


def test_clips_of_the_same_content_are_unchanged_whatever_else_the_corpus_holds(given):
    reuse.note("encode", key(given), OUTPUT, SOUNDS)
    Path("data/clips.csv").write_text("more")
    now = {"a": "1" * 64, "b": "3" * 64, "c": "4" * 64}
    assert reuse.unchanged("encode", key(given), OUTPUT, now) == {"a"}


@pytest.mark.parametrize("changed", ["code.py", "data/encoded/shard"])
def test_other_code_or_another_output_leaves_none(given, changed):
    reuse.note("encode", key(given), OUTPUT, SOUNDS)
    Path(changed).write_text("two, and longer")
    assert reuse.unchanged("encode", key(given), OUTPUT, SOUNDS) == set()


def test_without_a_note_or_with_half_of_one_none_is_unchanged(given):
    assert reuse.unchanged("encode", key(given), OUTPUT, SOUNDS) == set()
    reuse.note("encode", key(given), OUTPUT, SOUNDS)
    (note,) = paths.UNFINISHED.glob("*.json")
    note.write_text(note.read_text()[:40])
    assert reuse.unchanged("encode", key(given), OUTPUT, SOUNDS) == set()


def test_what_a_stage_keeps_is_found_under_the_same_code_alone(given):
    kept = reuse.kept("encode", given, CLIPS)
    kept.parent.mkdir(parents=True)
    kept.touch()
    Path("data/clips.csv").write_text("more")
    assert reuse.kept("encode", given, CLIPS) == kept and kept.exists()
    Path("code.py").write_text("two")
    assert reuse.kept("encode", given, CLIPS) != kept and not kept.exists()
    paths.PIPELINE.unlink()
    assert reuse.kept("encode", given, CLIPS) is None
