"""A full disk is one error that changes nothing; with room, the same command does its work.

A short form of `python -m tests.support.full_disk`, which tries every stage.
"""

import contextlib
import os
import resource
import subprocess
import sys

import pytest

from tests.support import full_disk
from tests.support.samples import ROOT
from tests.support.torture import Torture
from tests.support.torture_place import Place

STAGES = ["fetch_data", "train"]


@pytest.fixture(scope="module")
def torture(repo, tmp_path_factory):
    """A run of the whole pipeline on a small disk, to compare with."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(full_disk.small_disk(tmp_path_factory.mktemp("disk")))
        except full_disk.NotAllowed:
            pytest.skip("only root may mount a small file system")
        clone = repo.copy(disk / "clone")
        torture = Torture(Place(clone.path, through_dvc=False), 0, STAGES)
        torture.place.log = tmp_path_factory.mktemp("log") / "said"  # a disk that has room
        torture.reference = {stage: torture.place.hashes(stage) for stage in STAGES}
        yield torture


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_error_and_with_room_the_stage_ends_well(torture, stage):
    assert full_disk.try_full(torture, stage, share=0.5).startswith("error: ")


WRITE = """
import sys
import numpy as np
from pathlib import Path
from genrepro.core.files import atomic_output
from genrepro.core.stage import run

def main():
    with atomic_output(Path("out")) as draft:
        WRITE

run(main)
"""
WRITERS = {
    "text": "draft.write_text('x' * 300_000)",
    "safetensors": "from safetensors.numpy import save_file; save_file({'a': X}, draft)",
    "arrow": "from genrepro.encoding.store import write_shard; "
    "write_shard(draft, [('a', 0, X.astype('float16'))] * 9, 'input_values', 1)",
    "parquet": "import pyarrow as pa; from pyarrow.parquet import write_table; "
    "write_table(pa.table({'a': X}), draft)",
    "checkpoint": "import torch; torch.save({'a': torch.ones(100_000)}, draft)",
}


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_over_the_limit_on_sizes_is_one_error(in_tmp, writer):
    """Needs no root: the limit of a file's size is the process's own (`ulimit -f`)."""
    code = WRITE.replace("WRITE", WRITERS[writer].replace("X", "np.random.random(100_000)"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
    )
    # torch.save does not say why; a full disk is the likely reason
    words = "no space left" if writer == "checkpoint" else "ulimit -f"
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(in_tmp.iterdir())


def test_a_composed_clip_that_cannot_be_written_is_an_error(in_tmp):
    """libsndfile's own writing gives no reason, and may give no error."""
    from genrepro.corpus.demo.composer import Order, compose, pieces

    card = {"seed": 1, "seconds": 1.0, "sample_rate": 8000, "bands": 1}
    card |= {"genres_per_band": 10, "clips_per_genre": 1, "rests": 0, "noise": 40}
    path = in_tmp / "a.flac"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        compose(Order(pieces(card)[0], card, path))
