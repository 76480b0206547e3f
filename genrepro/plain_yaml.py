"""YAML that a stranger wrote: read in bounded time and memory, or refused in one sentence.

Of YAML's ways to say much with little, those that params.yaml, a corpus card or a dataset's README
never need are refused: aliases, which can stand for gigabytes; deep nesting, on which readers
recurse; and size, since a few kilobytes of digits already take long.
"""

from __future__ import annotations

import reprlib
from pathlib import Path

import yaml

from genrepro.runtime import PipelineError, in_a_line

MAX_BYTES = 100_000
MAX_DEPTH = 50


def read(path: Path) -> object:
    """Read a file of at most MAX_BYTES.

    Raises:
        PipelineError: it is not such YAML, in one sentence.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PipelineError(f"{path} is not readable as YAML: it is larger than {MAX_BYTES} bytes.")
    try:
        return parse(content.decode("utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is not readable as YAML: {error}.") from None


def parse(text: str) -> object:
    """Parse YAML into dicts, lists and scalars.

    Raises:
        ValueError: it cannot be, or must not be; the message is one line.
    """
    try:
        return _Plain(text).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(in_a_line(error, 300)) from None
    except (ArithmeticError, AttributeError, LookupError):  # PyYAML's, of a `!!bool maybe`
        raise ValueError("a value is not of the type that its tag (!!…) names") from None


class _Plain(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it holds an alias (*name); write out what it stands for")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def shortened(value: object) -> str:
    """A value as a message shows it, however large it is."""
    try:
        return f"{_repr.repr(value):.200}"
    except ValueError:  # Python prints no number of more than 4300 digits
        return "a number of thousands of digits"


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
_repr.maxlevel = 2
