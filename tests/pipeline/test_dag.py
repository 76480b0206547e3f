"""dvc.yaml compared with the code: a stage depends on the rooms that its script imports, declares
the sections of params.yaml that it reads, and every path that it names."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
import yaml

from genrepro.core import paths
from tests.support.samples import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
CORE = ROOT / "genrepro/core"
NAMED = {name: value for name, value in vars(paths).items() if isinstance(value, Path)}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path) -> set[Path]:
    """The modules of genrepro that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names}
    return {file for file in files if file.is_file()}


@functools.cache
def closure(stage: str) -> set[Path]:
    """A stage's script and all modules of genrepro that it imports, directly or not, less core."""
    seen, todo = set(), {ROOT / "stages" / f"{stage}.py"}
    while todo:
        seen |= todo
        found = {file for path in todo for file in imported(path)}
        todo = {file for file in found if CORE not in file.parents} - seen
    return seen


def room(file: Path) -> str:
    """genrepro/<room>, a file that is a room of its own, or the stage's script."""
    return "/".join(file.relative_to(ROOT).parts[:2])


def entries(stage: str, *kinds: str) -> dict[str, dict]:
    """Path -> options of a stage's dependencies or outputs."""
    listed = [entry for kind in kinds for entry in STAGES[stage].get(kind, [])]
    return {
        path: options
        for entry in listed
        for path, options in (entry.items() if isinstance(entry, dict) else [(entry, {})])
    }


def outputs(stage: str) -> dict[str, dict]:
    return entries(stage, "outs", "metrics", "plots")


def code(stage: str) -> set[str]:
    return {path for path in entries(stage, "deps") if path.startswith(("genrepro", "stages"))}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_rooms_that_it_imports(stage):
    assert code(stage) == {room(file) for file in closure(stage)}


def test_code_is_named_in_few_lines_and_core_in_none():
    assert sum(len(code(stage)) for stage in STAGES) <= 30
    assert not any(path.startswith("genrepro/core") for stage in STAGES for path in code(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_parameters_that_it_reads(stage):
    read = {
        node.attr
        for file in closure(stage)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "params"
    }
    for room in {file.parent for file in closure(stage)}:  # the model card is a template
        for template in room.glob("*.jinja"):
            read |= set(re.findall(r"\bparams\.(\w+)", template.read_text()))
    assert set(STAGES[stage]["params"]) == read


@functools.cache
def used_paths(file: Path) -> set[Path]:
    """The constants of core/paths that a file imports or reads as `paths.NAME`."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom) and node.module == "genrepro.core.paths":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "paths":
            names.add(node.attr)
    return {NAMED[name] for name in names if name in NAMED}


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_that_a_stage_names_is_declared(stage):
    declared = [Path(path) for path in entries(stage, "deps") | outputs(stage)]
    for file in closure(stage):
        for path in used_paths(file):
            near = [each for each in declared if each in (path, *path.parents)]
            assert near or any(path in each.parents for each in declared), f"{file}: {path}"


FOLLOWING = {
    "fetch_data": {"prepare", "encode", "train", "evaluate", "export"},
    "fetch_model": {"encode", "train", "evaluate", "export"},
    "prepare": {"train", "evaluate", "export"},
    "encode": {"train", "evaluate", "export"},
    "train": {"evaluate", "export"},
    "evaluate": {"export"},
    "export": set(),
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_follows_a_stage_reads_its_outputs(stage):
    following, todo = set(), {stage}
    while todo:
        written = [Path(path) for each in todo for path in outputs(each)]
        readers = {
            each
            for each in STAGES
            for path in map(Path, entries(each, "deps"))
            if any(out in (path, *path.parents) or path in out.parents for out in written)
        }
        todo = readers - following
        following |= readers
    assert following == FOLLOWING[stage]


def test_paths_have_one_home():
    """data/, metrics/, models/ and the others are spelled out in core/paths alone."""
    tops = {f"{path.parts[0]}/" for path in NAMED.values() if len(path.parts) > 1}
    for file in sorted((ROOT / "genrepro").rglob("*.py")) + sorted((ROOT / "stages").glob("*.py")):
        if CORE in file.parents:
            continue
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path" and node.args:
                assert not ast.unparse(node.args[0]).strip("'\"").startswith(tuple(tops)), file


def test_every_output_has_one_stage_that_replaces_it_itself_and_figures_are_kept_in_git():
    names = [path for stage in STAGES for path in outputs(stage)]
    assert len(names) == len(set(names))
    for stage in STAGES:
        for path, options in outputs(stage).items():
            assert not path.startswith("metrics/speed")  # it differs from run to run
            in_git = path.startswith(("metrics/", "data/split.csv", "data/predictions.csv"))
            assert options == ({"cache": False} if in_git else {}) | {"persist": True}, path


def test_bytecode_is_no_change_of_a_folder():
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()
