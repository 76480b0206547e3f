"""One GPU for one job: experiments that run side by side each take a free one, or wait for it.

`dvc queue start -j N` starts its jobs without a word about GPUs; each would take the first.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path

from genrepro import ranks
from genrepro.runtime import say

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 1.0
_held: list[object] = []  # open files; the system frees their locks when the process ends, however


def claim_one(device: str) -> None:
    """Show this process one GPU alone, which no other job of this user has; wait until one is free.

    To be called before CUDA starts. A launcher hands out GPUs itself.

    Args:
        device: `train.device`.
    """
    import torch

    if device == "cpu" or ranks.launched():
        return
    count = torch.cuda.device_count()  # asks the driver's library, and starts nothing
    if count:
        given = os.environ.get(VISIBLE) or ",".join(str(number) for number in range(count))
        os.environ[VISIBLE] = claim([gpu.strip() for gpu in given.split(",")][:count])


def claim(gpus: list[str], home: Path | None = None) -> str:
    """Take a free GPU until this process ends, as soon as there is one.

    Args:
        gpus: what may be taken: numbers or UUIDs, as in CUDA_VISIBLE_DEVICES.
        home: where the locks lie; by default a folder of this user's on this machine.
    """
    home = home or Path(tempfile.gettempdir()) / f"genrepro-gpus-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    said = False
    while True:
        for gpu in gpus:
            file = (home / gpu.replace("/", "_")).open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held.append(file)
            return gpu
        if not said:
            which = f"all {len(gpus)} GPUs are" if len(gpus) > 1 else "the GPU is"
            say(f"{which} taken by other experiments: waiting for one")
            said = True
        time.sleep(POLL)
