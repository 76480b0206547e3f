"""Outputs appear whole or not at all."""

import pytest

from genrepro.core import files


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_folder_appears_only_when_it_is_whole(in_tmp):
    target = in_tmp / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_output(target) as draft:
        draft.mkdir()
        (draft / "new").write_text("new")
        assert (target / "old").exists()
        raise ZeroDivisionError
    assert names(in_tmp) == ["old", "out"]
    with files.atomic_output(target) as draft:
        draft.mkdir()
        (draft / "new").write_text("new")
    assert names(in_tmp) == ["new", "out"]


def test_a_kill_while_a_folder_is_replaced_leaves_no_part_of_it(in_tmp, monkeypatch):
    """What rmtree would leave half-removed is not under the target's name any more."""
    target = in_tmp / "out"
    target.mkdir()
    (target / "old").touch()
    replaced = []
    with files.atomic_output(target) as draft:
        draft.mkdir()
        monkeypatch.setattr(files.shutil, "rmtree", lambda path: replaced.append(target.exists()))
    assert replaced == [True]  # the old folder is removed after the new one is in place
    monkeypatch.undo()
    with files.atomic_output(target) as draft:
        draft.mkdir()
    assert names(in_tmp) == ["out"]


def test_what_a_killed_run_left_beside_the_target_is_removed(in_tmp):
    (in_tmp / ".figures.json.part").write_text("half")
    (in_tmp / ".figures.json.old.part").write_text("old")
    files.write_json(in_tmp / "figures.json", {"a": 1})
    assert names(in_tmp) == ["figures.json"]


def test_json_refuses_what_json_does_not_have(in_tmp):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(in_tmp / "figures.json", {"a": float("nan")})
    assert names(in_tmp) == []
