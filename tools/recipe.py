"""Set params.yaml to its committed values plus one recipe, so that recipes do not accumulate.

Without a name, print which values differ from the committed ones. For example:
python -m tools.recipe probe
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from genrepro.core.config import read_yaml, validate
from genrepro.core.errors import PipelineError
from genrepro.core.files import write_text
from genrepro.core.params import Params
from genrepro.core.paths import PARAMS
from genrepro.core.stage import run
from tools.settings import differences, flat, shown

FOLDER = Path("recipes")


class Scalar(NamedTuple):
    """A value in the text of a YAML file: its place, and how it is written there."""

    start: int
    end: int
    text: str


def scalars(text: str) -> dict[str, Scalar]:
    """The values of a YAML text by their keys: {"train.epochs": Scalar(…), …}."""
    return dict(_scalars(yaml.compose(text), text, ""))


def _scalars(node: yaml.Node | None, text: str, key: str) -> Iterator[tuple[str, Scalar]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _scalars(value, text, f"{key}.{name.value}" if key else name.value)
    elif node is not None:
        start, end = node.start_mark.index, node.end_mark.index
        yield key, Scalar(start, end, text[start:end])


def apply(recipe: str, params: str) -> str:
    """Put a recipe's values, as they are written there, into the text of params.yaml.

    All else stays as it is: comments, their columns, and how the other values are written.

    Raises:
        KeyError: the recipe has a key that params.yaml does not have.
    """
    places = scalars(params)
    changes = [(places[key], new.text) for key, new in scalars(recipe).items()]
    for (start, end, _), new in sorted(changes, reverse=True):
        rest = params[end:].lstrip(" ")
        gap = len(params) - end - len(rest)
        if rest.startswith("#"):  # the comment keeps its column where there is room
            new = new.ljust(max(end + gap - start, len(new) + 1))
        params = params[:start] + new + (rest if rest.startswith("#") else params[end:])
    return params


def committed() -> str:
    """The text of params.yaml in the last commit.

    Raises:
        PipelineError: there is none.
    """
    command = ("git", "show", f"HEAD:./{PARAMS}")
    try:
        return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    except (OSError, subprocess.CalledProcessError):
        raise PipelineError(
            f"{PARAMS} is not in the last commit: run from the root of a Git repository, after "
            "`git commit`."
        ) from None


def read(name: str) -> str:
    """The text of a recipe.

    Raises:
        PipelineError: there is no such recipe.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.yaml"))) or "none"
        raise PipelineError(f"there is no recipe {name!r} in {FOLDER}/; the recipes are {known}.")
    return path.read_text(encoding="utf-8")


def head(recipe: str) -> list[str]:
    """The comment at the top of a recipe: what it is for, and what to type next."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), recipe.splitlines())
    return [line.lstrip("# ") for line in lines]


def use(name: str) -> None:
    """Write params.yaml, and print what has changed in it."""
    base, recipe = committed(), read(name)
    try:
        wanted = apply(recipe, base)
    except KeyError as error:
        raise PipelineError(f"{FOLDER}/{name}.yaml: {PARAMS} has no {error.args[0]}.") from None
    validate(Params, yaml.safe_load(wanted), FOLDER / f"{name}.yaml")
    default, now, new = (flat(yaml.safe_load(text)) for text in (base, _current(), wanted))
    write_text(PARAMS, wanted)
    print(f"{PARAMS} now holds the committed values and these of {FOLDER}/{name}.yaml:")
    print(_table(differences(default, new)))
    own = differences(default, now)
    if replaced := {k: both for k, both in differences(now, new).items() if k in own}:
        print(f"These values were not committed, and were replaced:\n{_table(replaced)}")
    print("\n".join([*head(recipe)[1:], f"Back: git restore {PARAMS}"]))


def _current() -> str:
    """The text of params.yaml in the workspace, where it may be missing or broken."""
    try:
        read_yaml(PARAMS)
        return PARAMS.read_text(encoding="utf-8")
    except (FileNotFoundError, PipelineError):
        return ""


def _table(changes: dict[str, tuple[object, object]]) -> str:
    width = max(map(len, changes), default=0)
    rows = [f"  {key:<{width}}  {shown(old)} → {shown(new)}" for key, (old, new) in changes.items()]
    return "\n".join(rows) or "  (no difference)"


def listing() -> str:
    """Each recipe: its name, what it is for, and its values."""
    blocks = []
    for path in sorted(FOLDER.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        values = (f"{key}={shown(value)}" for key, value in flat(yaml.safe_load(text)).items())
        wrapped = textwrap.wrap(
            "  ".join(values), 100, initial_indent="    ", subsequent_indent="    "
        )
        blocks.append("\n".join([f"{path.stem}: {head(text)[0]}", *wrapped]))
    return "\n".join(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="a file in recipes/, without .yaml")
    parser.add_argument("--list", action="store_true", help="print the recipes and their values")
    args = parser.parse_args()
    if args.list:
        print(listing())
    elif args.name:
        use(args.name)
    else:
        default, now = (flat(yaml.safe_load(text)) for text in (committed(), _current()))
        print(f"{PARAMS}, compared with the last commit:\n{_table(differences(default, now))}")


if __name__ == "__main__":
    run(main)
