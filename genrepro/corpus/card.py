"""corpus.yaml: where a corpus comes from and what is known about it, as one typed model."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from genrepro import plain_yaml
from genrepro.runtime import PipelineError

CARD = "corpus.yaml"

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="a full Hub commit")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]


class Card(BaseModel):
    """What every kind of corpus may say. Unknown keys are errors, except of a generated one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = None  # for people
    licence: str | None = None  # for people
    source: str | None = None  # for people: a page
    name_pattern: str | None = None  # as params.yaml's data.name_pattern, which goes before it
    facts: str | None = None  # a CSV beside the card; params.yaml's data.facts goes before it


class Generated(Card):
    """Music that genrepro.synth composes; it checks the keys that are its own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: Literal["generated"]


class Folder(Card):
    """`<label>/<clip>.<ext>` in a folder elsewhere."""

    kind: Literal["folder"]
    path: Name  # relative to the repository's root; DVC watches the card, not that folder


class Archive(Card):
    """A tarball of `…/<label>/<clip>.<ext>` in a dataset repository on the Hub."""

    kind: Literal["archive"]
    repo: Name
    revision: Commit
    file: Name
    sha256: Sha256


class Parquet(Card):
    """Parquet files with an audio and a label column in a dataset repository on the Hub."""

    kind: Literal["parquet"]
    repo: Name
    revision: Commit
    config: str | None = None  # one of the configurations that the repository's README names
    split: list[Name] = ["train"]  # with two or more, each clip's part is its split
    files: list[Name] | None = None  # glob patterns, where the README says nothing
    audio: Name = "audio"  # the columns
    label: Name = "label"
    group: str | None = None
    title_column: str | None = None

    @field_validator("split", "files", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


AnyCard = Annotated[Generated | Folder | Archive | Parquet, Field(discriminator="kind")]
KINDS = {"generated": Generated, "folder": Folder, "archive": Archive, "parquet": Parquet}


def load_card(folder: Path) -> Card | None:
    """Read `folder`/corpus.yaml, or None where there is none: then it is plain labelled audio.

    Raises:
        PipelineError: it is not YAML, or a key is unknown, missing or of a wrong type; the
            message names each such key.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    raw = plain_yaml.read(path)
    try:
        return TypeAdapter(AnyCard).validate_python(raw)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(problem, raw)}" for problem in error.errors()[:20])
        raise PipelineError(f"{path} cannot be used:\n{lines}") from None


def _explain(problem: dict, raw: object) -> str:
    kinds = ", ".join(KINDS)
    if problem["type"] in ("union_tag_not_found", "model_attributes_type", "union_tag_invalid"):
        given = raw.get("kind") if isinstance(raw, dict) else None
        return f"kind: must be one of {kinds}, not {plain_yaml.shortened(given)}"
    kind, *location = [str(part) for part in problem["loc"]]
    key = ".".join(location)[:100]
    if problem["type"] == "extra_forbidden":
        known = ", ".join(name for name in KINDS[kind].model_fields)
        return f"{key}: there is no such key; known for kind {kind}: {known}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    if location[-1:] == ["revision"]:
        return f"{key}: must be a full commit of 40 hexadecimal digits, since a branch moves"
    message = problem["msg"]
    return f"{key}: {message[0].lower()}{message[1:]}, not {plain_yaml.shortened(problem['input'])}"


def matches(name: str, patterns: list[str]) -> bool:
    """Whether a file's name fits one of the glob patterns; `*` crosses no slash, `**` does."""
    return any(_fits(PurePosixPath(name).parts, PurePosixPath(p).parts) for p in patterns)


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    if not parts or not PurePosixPath(parts[0]).match(pattern[0]):
        return False
    return _fits(parts[1:], pattern[1:])
