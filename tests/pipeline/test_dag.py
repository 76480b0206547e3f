"""dvc.yaml held against the code: a stage's dependencies are the modules that it imports, its
parameters the sections of params.yaml that it reads, and every path it names is declared."""

import ast
import functools
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PACKAGES = ("genrepro", "stages")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> set[Path]:
    """The project's own modules that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.split(".")[0] in PACKAGES}
    ours |= {name.rsplit(".", 1)[0] for name in ours}  # a package runs before its modules
    candidates = {ROOT / Path(*name.split(".")) for name in ours}
    files = {base.with_suffix(".py") for base in candidates} | {
        base / "__init__.py" for base in candidates
    }
    return {file for file in files if file.exists() and file.read_text().strip()}


def closure(path: Path) -> set[Path]:
    """A file and all of the project's modules that it imports, directly or not."""
    seen, todo = set(), {path}
    while todo:
        seen |= todo
        todo = {found for file in todo for found in imported(file)} - seen
    return seen


def paths(entries: list) -> set[str]:
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def script(name: str) -> Path:
    return ROOT / "stages" / f"{name}.py"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(name):
    declared = {path for path in paths(STAGES[name]["deps"]) if path.endswith(".py")}
    assert declared == {str(file.relative_to(ROOT)) for file in closure(script(name))} - {
        "genrepro/__init__.py"
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_exactly_the_parameters_that_it_reads(name):
    read = set()
    for file in closure(script(name)):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "params":
                read.add(node.attr)
    assert set(STAGES[name]["params"]) == read


@pytest.mark.parametrize("name", STAGES)
def test_every_path_that_a_stage_names_is_declared(name):
    named = {
        node.args[0].value
        for node in ast.walk(tree(script(name)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Path"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    declared = {f"metrics/speed/{name}.json"}
    for kind in ("deps", "outs", "metrics", "plots"):
        declared |= paths(STAGES[name].get(kind, []))
    undeclared = {path for path in named if not any(other.startswith(path) for other in declared)}
    assert not undeclared


def test_every_output_has_one_home_and_figures_are_kept_in_git():
    outputs = [
        entry
        for stage in STAGES.values()
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    ]
    names = [path for entry in outputs for path in paths([entry])]
    assert len(names) == len(set(names))
    for entry in outputs:
        in_git = isinstance(entry, dict) and next(iter(entry.values())) == {"cache": False}
        assert in_git == next(iter(paths([entry]))).startswith(("metrics/", "data/split.csv"))
