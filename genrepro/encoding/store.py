"""The encoded corpus: features of all segments, in half precision, memory-mapped.

The folder is in the format of 🤗 Datasets (`datasets.load_from_disk` reads it): Arrow shards with
one row per segment. Rows are views of the mapped files, so reading them copies nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.files import write_json

Row = tuple[str, int, np.ndarray]  # clip, the segment's number in it, features


def write_shard(path: Path, rows: Iterable[Row], input_name: str, dimensions: int) -> None:
    """Write one Arrow shard row by row, so that memory use does not grow with its size."""
    one_row = schema(input_name, dimensions)
    write_batches(path, (batch(row, one_row) for row in rows))


def write_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write one Arrow shard of batches, each a row."""
    batches = iter(batches)
    first = next(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema) as writer:
        for one in itertools.chain([first], batches):
            writer.write_batch(one)


def batches_by_clip(folder: Path) -> dict[str, list[pa.RecordBatch]]:
    """The rows of a whole encoded corpus as they are on disk, memory-mapped."""
    found: dict[str, list[pa.RecordBatch]] = {}
    for shard in sorted(folder.glob("*.arrow")):
        for one in pa.ipc.open_stream(pa.memory_map(str(shard))):
            found.setdefault(one.column(0)[0].as_py(), []).append(one)
    return found


def batch(row: Row, schema: pa.Schema) -> pa.RecordBatch:
    clip, segment, features = row
    columns = [pa.array([clip]), pa.array([segment], pa.int32()), _column(features)]
    return pa.record_batch(columns, schema=schema)


def schema(input_name: str, dimensions: int) -> pa.Schema:
    arrow_type: pa.DataType = pa.float16()
    feature: dict[str, object] = {"dtype": "float16", "_type": "Value"}
    for _ in range(dimensions):
        arrow_type, feature = pa.list_(arrow_type), {"feature": feature, "_type": "List"}
    features: dict[str, dict[str, object]] = {
        "clip": {"dtype": "string", "_type": "Value"},
        "segment": {"dtype": "int32", "_type": "Value"},
        input_name: feature,
    }
    fields = [("clip", pa.string()), ("segment", pa.int32()), (input_name, arrow_type)]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _column(features: np.ndarray) -> pa.Array:
    """Wrap an array's buffer as one row of nested lists: (n,) or (outer, inner) float16."""
    column = pa.array(features.reshape(-1))
    for size in reversed(features.shape):
        offsets = np.arange(0, len(column) + 1, size, dtype=np.int32)
        column = pa.ListArray.from_arrays(offsets, column)
    return column


def write_index(folder: Path, shards: list[Path]) -> None:
    """Add the files that make a folder of shards readable by 🤗 Datasets and `Encoded`."""
    digest = hashlib.sha256()
    for shard in shards:
        with shard.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    with pa.memory_map(str(shards[0])) as file:
        info = json.loads(pa.ipc.open_stream(file).schema.metadata[b"huggingface"])["info"]
    write_json(folder / "dataset_info.json", info)
    state: dict[str, object] = {
        "_data_files": [{"filename": shard.name} for shard in shards],
        "_fingerprint": digest.hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / "state.json", state)


@dataclass(frozen=True)
class Encoded:
    """A memory-mapped encoded corpus; row i is segment number `segment[i]` of `clip[i]`."""

    clip: list[str]
    segment: list[int]
    input_name: str
    digest: str
    _features: list[np.ndarray]

    @classmethod
    def open(cls, folder: Path) -> Encoded:
        """Map the shards of a folder.

        Raises:
            PipelineError: the folder is missing, incomplete or damaged.
        """
        clip, segment, features = [], [], []
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            for entry in state["_data_files"]:
                mapped = pa.memory_map(str(folder / entry["filename"]))
                for batch in pa.ipc.open_stream(mapped):
                    batch.validate(full=True)  # no offset may point outside the file
                    clip += batch.column(0).to_pylist()
                    segment += batch.column(1).to_pylist()
                    features += _views(batch.column(2))
                    input_name = batch.schema.names[2]
            if not clip:
                raise ValueError("it holds no clips")
            return cls(clip, segment, input_name, state["_fingerprint"], features)
        except FileNotFoundError as error:
            raise PipelineError(
                f"{error.filename or folder} is missing; type `dvc repro encode`."
            ) from None
        except (OSError, pa.ArrowException, ValueError, LookupError, TypeError) as error:
            raise PipelineError(
                f"{folder} cannot be read ({one_line(error)}); type `dvc repro -f encode`."
            ) from None

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, row: int) -> np.ndarray:
        """The features of one segment: float16, a read-only view of the file."""
        return self._features[row]


def _views(column: pa.ListArray) -> list[np.ndarray]:
    """Turn the rows of a column of nested float16 lists into arrays over the mapped file."""
    views = []
    for index in range(len(column)):
        row, shape = column[index].values, []
        while pa.types.is_list(row.type):
            shape.append(len(row))
            row = row.flatten()
        views.append(row.to_numpy(zero_copy_only=True).reshape(*shape, -1))
    return views
