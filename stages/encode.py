"""encode: data/raw through the backbone's feature extractor, into data/encoded.

Every core takes whole shards of clips; a shard's bytes depend on its clips alone, so the number of
processes changes nothing. Killed and started again, it goes on from its finished shards. Under a
launcher (`encode.launcher`), each of its processes takes its share of the shards, on any machine
that sees this folder.
"""

from __future__ import annotations

import csv
import functools
import itertools
import math
from pathlib import Path

import numpy as np
import torch

from genrepro import audio, encoded, features, parallel, ranks, resume, together
from genrepro.params import load
from genrepro.runtime import PipelineError, measured, remove, run, say, staged

CLIPS = Path("data/clips.csv")
BACKBONE = Path("models/backbone")
ENCODED = Path("data/encoded")
SHARD_CLIPS = 32
MOST_SHARDS = 1000


def main() -> None:
    params = load()
    with measured("encode") as figures:
        clips = _read_clips()
        longest = max(float(clip["seconds"]) for clip in clips)
        torch.set_num_threads(1)  # processes are forked later, and threads would not come along
        extractor = features.adapt(features.load(BACKBONE), params.encode, longest)
        shards = _shards(clips)
        with together.rank_0_first("start"):  # which has the stage's lock, and clears up
            partial = unfinished(extractor, clips)
            if ranks.rank() == 0:
                extractor.save_pretrained(partial)
        _encode(shards, partial)
        together.meet("end")
        if ranks.rank():
            return
        _finish(partial, len(shards))
        size = sum(file.stat().st_size for file in ENCODED.iterdir())
        figures["clips"] = len(clips)
        figures["mb_per_clip"] = round(size / 1e6 / len(clips), 3)
    say(f"encoded {len(clips)} clips in segments of {extractor.segment_seconds:g} s")


def unfinished(extractor: features.Extractor, clips: list[dict[str, str]]) -> Path:
    """Where the shards of these very clips are: under these names, with these bytes."""
    return resume.folder(
        "encode",
        {
            "extractor": extractor.to_dict(),
            "clips": [(clip["clip"], clip["sha256"]) for clip in clips],
        },
        [__file__, audio.__file__, features.__file__, encoded.__file__],
        ["numpy", "pyarrow", "soundfile", "soxr", "torch", "transformers"],
    )


def _read_clips() -> list[dict[str, str]]:
    try:
        with CLIPS.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise PipelineError(f"{CLIPS} is not here: type `dvc repro fetch_data`.") from None


def _shards(clips: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """Divide the clips by their number alone: enough shards to share out, not too many files."""
    size = max(SHARD_CLIPS, math.ceil(len(clips) / MOST_SHARDS))
    return [clips[start : start + size] for start in range(0, len(clips), size)]


def _encode(shards: list[list[dict[str, str]]], partial: Path) -> None:
    """Write each shard that is not yet there and that is this process' own."""
    jobs = [(clips, partial / _shard_name(n, len(shards))) for n, clips in enumerate(shards)]
    jobs = jobs[ranks.rank() :: ranks.world()]
    todo = [(clips, target) for clips, target in jobs if not target.exists()]
    if len(todo) < len(jobs):
        say(f"{len(jobs) - len(todo)} of {len(jobs)} shards were finished before")
    # Forked: each process would else spend seconds on importing transformers again.
    parallel.mapped(_encode_shard, todo, "encode", fork=True)


def _shard_name(index: int, count: int) -> str:
    return f"data-{index:05d}-of-{count:05d}.arrow"


def _encode_shard(job: tuple[list[dict[str, str]], Path]) -> None:
    clips, target = job
    extractor = _extractor(target.parent)
    rows = (
        (clip["clip"], number, segment)
        for clip in clips
        for number, segment in enumerate(_segments(extractor, Path(clip["path"])))
    )
    first = next(rows)
    with staged(target) as draft:
        name = extractor.model_input_names[0]
        encoded.write_shard(draft, itertools.chain([first], rows), name, first[2].ndim)


@functools.cache
def _extractor(folder: Path) -> features.Extractor:
    torch.set_num_threads(1)  # each process has one core, and sums in one order
    return features.load(folder)


def _segments(extractor: features.Extractor, path: Path) -> list[np.ndarray]:
    try:
        samples, rate = audio.read(path, extractor.max_seconds)
    except audio.AudioFault as fault:
        raise PipelineError(
            f"{path} has changed since it was listened to ({fault}): "
            "take the corpus anew with `dvc repro -f fetch_data`."
        ) from None
    return features.segments(extractor, audio.resample(samples, rate, extractor.sampling_rate))


def _finish(partial: Path, count: int) -> None:
    """Make the shards a folder that Datasets reads, and move it into place."""
    shards = [partial / _shard_name(index, count) for index in range(count)]
    if missing := [shard for shard in shards if not shard.exists()]:
        raise PipelineError(
            f"{missing[0]} is not here: encode.launcher has started processes that see another "
            "folder; start them in this one, on a disk that all machines share."
        )
    encoded.write_index(partial, shards)
    ENCODED.parent.mkdir(parents=True, exist_ok=True)
    remove(ENCODED)
    partial.replace(ENCODED)


if __name__ == "__main__":
    run(together.one_voice(main))
