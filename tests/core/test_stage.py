"""Outputs appear whole or not at all; errors that a person can mend are one sentence."""

import errno
import importlib
import json
import shutil

import pytest

from genrepro.core import files, processes, stage
from genrepro.core.errors import PipelineError
from tests.support.samples import ROOT


def test_a_folder_appears_only_when_it_is_whole(in_tmp):
    target = in_tmp / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_output(target) as draft:
        draft.mkdir()
        (draft / "new").write_text("new")
        assert (target / "old").exists()
        raise ZeroDivisionError
    assert [file.name for file in in_tmp.rglob("*")] == ["out", "old"]
    with files.atomic_output(target) as draft:
        draft.mkdir()
        (draft / "new").write_text("new")
    assert sorted(file.name for file in in_tmp.rglob("*")) == ["new", "out"]


def test_what_a_killed_run_left_beside_the_target_is_swept_away(in_tmp):
    (in_tmp / ".figures.json.part").write_text("half")
    files.write_json(in_tmp / "figures.json", {"a": 1})
    assert [file.name for file in in_tmp.iterdir()] == ["figures.json"]


def test_json_refuses_what_json_does_not_have(in_tmp):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(in_tmp / "figures.json", {"a": float("nan")})
    assert not list(in_tmp.iterdir())


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (PipelineError("no clips in x: add some."), "error: no clips in x: add some."),
        (
            OSError(errno.ENOSPC, "No space left", "data/raw"),
            "data/raw: the disk is full",
        ),
        (
            OSError(errno.EROFS, "Read-only", "data"),
            "data: the file system is read-only",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "data"), "data: permission denied"),
        (PermissionError(errno.EACCES, "Permission denied", "{a}.wav"), "{a}.wav: permission"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[…] DefaultCPUAllocator: can't allocate memory: you […]"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out of memory"),
    ],
)
def test_what_a_person_can_mend_ends_in_one_sentence(raised, said):
    def main():
        raise raised

    with pytest.raises(SystemExit) as caught:
        stage.run(main)
    assert said in caught.value.code and "\n" not in caught.value.code


def test_a_fault_of_the_program_keeps_its_traceback():
    def main():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(FileNotFoundError):
        stage.run(main)


def test_seconds_and_memory_go_to_metrics_speed(in_tmp):
    with stage.record_speed("encode") as figures:
        figures["clips"] = 3
    written = json.loads((in_tmp / "metrics/speed/encode.json").read_text())
    assert written["clips"] == 3 and written["seconds"] >= 0 and written["peak_memory_mb"] > 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_an_impossible_number_of_workers_is_refused(monkeypatch, value):
    monkeypatch.setenv("GENREPRO_WORKERS", value)
    with pytest.raises(PipelineError, match="GENREPRO_WORKERS"):
        processes.workers()


@pytest.mark.parametrize(
    ("stage", "maker"),
    [
        ("prepare", "dvc repro fetch_data"),
        ("encode", "dvc repro fetch_data"),
        ("train", "dvc repro encode"),
        ("evaluate", "dvc repro encode"),
        ("export", "dvc repro"),
    ],
)
def test_a_stage_without_its_input_says_what_makes_it(in_tmp, stage, maker):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    with pytest.raises(PipelineError, match=f"is not here.*`{maker}`|holds no.*`{maker}`"):
        importlib.import_module(f"stages.{stage}").main()
