"""corpus.yaml, the card of a corpus: where it comes from and what is known about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from genrepro.core import config
from genrepro.core.errors import PipelineError

CARD = "corpus.yaml"


def _commit(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", value):
        raise ValueError("must be a full commit of 40 hexadecimal digits, since a branch moves")
    return value


Commit = Annotated[str, AfterValidator(_commit)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]


class Card(config.Section):
    """The keys that every kind of corpus may have. Unknown keys are errors."""

    title: str | None = None  # for people
    licence: str | None = None  # for people
    source: str | None = None  # for people: a page
    download: str | None = None  # for people: what to download
    name_pattern: str | None = None  # as data.name_pattern in params.yaml, which takes precedence
    facts: str | None = None  # a CSV beside the card; data.facts in params.yaml takes precedence
    protocol: Literal["stratified", "grouped", "published", "course"] | None = None  # for `auto`


class Generated(Card):
    """Music composed by genrepro.corpus.demo, which checks the keys of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: Literal["generated"]


class Files(Card):
    """Sound files in a folder, in an archive or in a dataset repository on the Hub."""

    # Relative to the repository's root; DVC watches the card, not that folder or archive. Without
    # it the files are beside the card, where DVC watches them too.
    path: Name | None = None
    repo: Name | None = None  # instead of `path`
    revision: Commit | None = None
    files: list[Name] = Field(default=["*"])  # glob patterns for what to take from `repo`
    lists: dict[Name, Name] | None = None  # split -> text file with a path per line; others: train
    labels: dict[str, str] | None = None  # label as found -> its name; files of others are skipped

    @model_validator(mode="after")
    def _one_place(self) -> Files:
        if self.repo and (self.path or not self.revision):
            raise ValueError("repo goes with a revision, and instead of path")
        return self


class Folder(Files):
    """`<label>/<clip>.<ext>`, or another layout that layout.py knows or name_pattern reads."""

    kind: Literal["folder"]


class Table(Files):
    """Sound files that a table lists, with columns for their label and what else is known."""

    kind: Literal["table"]
    table: Name  # CSV, TSV, JSONL or Parquet; where it is below the folder
    header_rows: int = Field(default=1, ge=1)  # of a CSV; a column is then called upper.lower
    file: Name = "file_name"  # the column, or columns in a pattern: "{id:0>6}" fills up with zeros
    label: Name | None = "label"  # the columns; null: the label is in the folder's or file's name
    group: Name | None = None
    title_column: Name | None = None
    part: Name | None = None  # the split or the fold
    where: dict[Name, str | bool | int] = Field(default={})  # only rows with these values


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
    # With two or more, they become each clip's `part`; dev, valid and the like are found too.
    split: list[Name] = Field(default=["train"])
    files: list[Name] | None = None  # glob patterns, where the README says nothing
    audio: Name = "audio"  # the columns
    label: Name = "label"
    group: str | None = None
    title_column: str | None = None

    @field_validator("split", "files", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


KINDS: dict[str, type[Card]] = {
    "generated": Generated,
    "folder": Folder,
    "table": Table,
    "archive": Archive,
    "parquet": Parquet,
}


def load_card(folder: Path) -> Card | None:
    """Read `folder`/corpus.yaml; None if there is none: the folder then holds <label>/<clip>.

    Raises:
        PipelineError: it is not YAML, or a key is unknown, missing or of a wrong type; the
            message names each such key.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    content = config.read_yaml(path)
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise PipelineError(
            f"{path} cannot be used:\n  kind: must be one of {', '.join(KINDS)}, "
            f"not {config.shorten(kind)}"
        )
    return config.validate(KINDS[kind], content, path)
