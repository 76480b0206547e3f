"""encode: run the backbone's feature extractor on data/raw, into data/encoded.

Each core encodes whole shards of clips. A shard's bytes depend only on its clips, so the number of
processes changes nothing. A run that was killed resumes from its finished shards. Under a launcher
(`encode.launcher`), each process encodes its share of the shards, on any machine that shares this
folder.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from genrepro import audio
from genrepro.core import distributed, processes, resume, reuse
from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output, remove
from genrepro.core.params import Params
from genrepro.core.paths import BACKBONE, CLIPS, ENCODED, RAW
from genrepro.core.stage import log, record_speed
from genrepro.encoding import store
from genrepro.encoding.extractor import Extractor, adapt, extract_segments, load_extractor

SHARD_CLIPS = 32
MAX_SHARDS = 1000


class Job(NamedTuple):
    """A shard to write: its clips, rows of data/clips.csv, and those of them to copy."""

    clips: list[dict[str, str]]
    same: set[str]
    target: Path


def main(params: Params) -> None:
    with record_speed("encode") as figures:
        clips = _read_clips()
        longest = max(float(clip["seconds"]) for clip in clips)
        torch.set_num_threads(
            1
        )  # worker processes are forked later, and threads do not survive a fork
        extractor = adapt(load_extractor(BACKBONE), params.encode, longest)
        shards = _shards(clips)
        with distributed.rank_0_first("start"):  # rank 0 has the stage's lock, and cleans up
            partial = resume.folder("encode", params, {})
            if processes.rank() == 0:
                extractor.save_pretrained(partial)
        sounds = {clip["clip"]: clip["sha256"] for clip in clips}
        adapted = {"extractor": extractor.to_json_string()}  # its segments depend on all clips
        key = resume.key_of("encode", params, adapted, without=(CLIPS, RAW))
        same = reuse.unchanged("encode", key, ENCODED, sounds)
        _encode(shards, partial, same)
        distributed.barrier("end")
        if processes.rank():
            return
        _finish(partial, len(shards))
        reuse.note("encode", key, ENCODED, sounds)
        size = sum(file.stat().st_size for file in ENCODED.iterdir())
        figures["clips"] = len(clips)
        figures["mb_per_clip"] = round(size / 1e6 / len(clips), 3)
    kept = f"; {len(same)} were already encoded" if same else ""
    log(f"encoded {len(clips)} clips in segments of {extractor.segment_seconds:g} s{kept}")


def _read_clips() -> list[dict[str, str]]:
    try:
        with CLIPS.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise PipelineError(f"{CLIPS} is missing: type `dvc repro fetch_data`.") from None


def _shards(clips: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """Divide the clips into shards: enough to share among processes, and not too many files."""
    size = max(SHARD_CLIPS, math.ceil(len(clips) / MAX_SHARDS))
    return [clips[start : start + size] for start in range(0, len(clips), size)]


def _encode(shards: list[list[dict[str, str]]], partial: Path, same: set[str]) -> None:
    """Write those of this process's shards that do not exist yet.

    Args:
        same: the clips whose rows in data/encoded are copied.
    """
    jobs = [
        Job(clips, {clip["clip"] for clip in clips} & same, partial / _shard_name(n, len(shards)))
        for n, clips in enumerate(shards)
    ]
    jobs = jobs[processes.rank() :: processes.world()]
    todo = [job for job in jobs if not job.target.exists()]
    if len(todo) < len(jobs):
        log(f"{len(jobs) - len(todo)} of {len(jobs)} shards were already encoded")
    # Forked, because importing transformers in each process would take seconds.
    processes.map_processes(_encode_shard, todo, "encode", fork=True)


def _shard_name(index: int, count: int) -> str:
    return f"data-{index:05d}-of-{count:05d}.arrow"


def _encode_shard(job: Job) -> None:
    with atomic_output(job.target) as draft:
        store.write_batches(draft, _batches(job))


def _batches(job: Job) -> Iterator[pa.RecordBatch]:
    extractor = _extractor(job.target.parent)
    for clip in job.clips:
        name = clip["clip"]
        if name in job.same:
            yield from _encoded_before()[name]
            continue
        for number, segment in enumerate(_segments(extractor, Path(clip["path"]))):
            schema = store.schema(extractor.model_input_names[0], segment.ndim)
            yield store.batch((name, number, segment), schema)


@functools.cache
def _encoded_before() -> dict[str, list[pa.RecordBatch]]:
    return store.batches_by_clip(ENCODED)


@functools.cache
def _extractor(folder: Path) -> Extractor:
    torch.set_num_threads(1)  # one core per process, and the same order of sums everywhere
    return load_extractor(folder)


def _segments(extractor: Extractor, path: Path) -> list[np.ndarray]:
    try:
        samples, rate = audio.read(path, extractor.max_seconds)
    except audio.AudioFault as fault:
        raise PipelineError(
            f"{path} has changed since fetch_data read it ({fault}): "
            "fetch the corpus again with `dvc repro -f fetch_data`."
        ) from None
    return extract_segments(extractor, audio.resample(samples, rate, extractor.sampling_rate))


def _finish(partial: Path, count: int) -> None:
    """Complete the folder of shards and move it into place."""
    shards = [partial / _shard_name(index, count) for index in range(count)]
    if missing := [shard for shard in shards if not shard.exists()]:
        raise PipelineError(
            f"{missing[0]} is missing: encode.launcher started processes in another folder; "
            "start all of them in this one, on a disk that all machines share."
        )
    store.write_index(partial, shards)
    ENCODED.parent.mkdir(parents=True, exist_ok=True)
    remove(ENCODED)
    partial.replace(ENCODED)
