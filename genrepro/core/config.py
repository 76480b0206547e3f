"""YAML files as typed models, and what is wrong in them as sentences."""

from __future__ import annotations

import difflib
import reprlib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from genrepro.core.errors import PipelineError, one_line

MAX_BYTES = 100_000  # a few kilobytes of digits or nesting already take PyYAML long
MAX_PROBLEMS = 20  # that one message names

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 80
_shown.maxlevel = 2


class Section(BaseModel):
    """A model that refuses unknown keys, and reads "1e-05", which YAML 1.1 keeps as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Schema = TypeVar("Schema", bound=BaseModel)


def read_yaml(path: Path) -> object:
    """Read a YAML file of at most MAX_BYTES into dicts, lists and scalars.

    Raises:
        PipelineError: it is not such a file.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PipelineError(f"{path} is not readable as YAML: it is larger than {MAX_BYTES} bytes.")
    try:
        return yaml.safe_load(content.decode("utf-8"))
    except RecursionError:
        reason = "it is nested too deeply"
    except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        reason = one_line(error, 300)  # the last three are PyYAML's for a `!!bool maybe`
    raise PipelineError(f"{path} is not readable as YAML: {reason}.")


def validate(schema: type[Schema], content: object, path: Path, advice: str = "") -> Schema:
    """Check what `read_yaml` returned against a schema.

    Args:
        path: the file, for the message.
        advice: a last line for the message.

    Raises:
        PipelineError: a key is unknown or missing, or a value has a wrong type or is impossible;
            the message names each such key and what is allowed there.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = error.errors()[:MAX_PROBLEMS]
        lines = [f"  {_explain(dict(problem), schema)}" for problem in problems]
        text = "\n".join([f"{path} cannot be used:", *lines, *filter(None, [advice])])
        raise PipelineError(text) from None


def shorten(value: object) -> str:
    """A value as a message shows it, however large it is."""
    try:
        return f"{_shown.repr(value):.200}"
    except ValueError:  # Python prints no number of more than 4300 digits
        return "a number of thousands of digits"


def _explain(problem: dict, schema: type[BaseModel]) -> str:
    """One line for one of pydantic's findings: the key, what is wrong, what is allowed."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)[:100] or "the file"
    if problem["type"] == "extra_forbidden":
        known = _keys(schema, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{key}: no such key{hint}; the keys here are {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = problem["input"]
    but = "" if isinstance(given, dict) else f", not {shorten(given)}"
    return f"{key}: {message[0].lower()}{message[1:]}{but}"


def _keys(schema: type[BaseModel], location: list[str]) -> list[str]:
    fields: Any = schema.model_fields
    for part in location:
        fields = fields[part].annotation.model_fields
    return list(fields)
