"""One GPU for one job: experiments that run side by side each take a free one, or wait for it.

`dvc queue start -j N` starts its jobs without a word about GPUs; each would take the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from genrepro.core import processes
from genrepro.core.errors import PipelineError
from genrepro.core.params import Evaluate, Train
from genrepro.core.stage import log

PRECISIONS = {"fp16": {"fp16": True}, "bf16": {"bf16": True}, "none": {}}


def set_up_inference(evaluate: Evaluate) -> str:
    """Return the device of evaluate and export, ready to compute in float32, the same each time.

    To be called before CUDA starts.
    """
    claim_gpu(evaluate.device)
    device = choose_device(evaluate)
    if device == "cuda":
        make_deterministic()
        torch.backends.cudnn.allow_tf32 = False  # 10 bits, where ONNX Runtime and a CPU keep 23
    return device


def choose_device(section: Train | Evaluate) -> str:
    """Return "cuda" or "cpu", as the section's `device` asks and the machine has.

    Raises:
        PipelineError: a GPU is asked for and none is there, or a launcher has started more
            processes on this machine than it has GPUs.
    """
    if section.device == "cuda" and not torch.cuda.is_available():
        key = f"{type(section).__name__.lower()}.device"
        raise PipelineError(f"{key} is cuda, but PyTorch sees no GPU; set it to auto or cpu.")
    device = "cuda" if section.device == "auto" and torch.cuda.is_available() else section.device
    if device == "cuda" and processes.local_world() > torch.cuda.device_count():
        raise PipelineError(
            f"train.launcher starts {processes.local_world()} processes on a machine with "
            f"{torch.cuda.device_count()} GPUs; start one for each GPU."
        )
    return "cpu" if device == "auto" else device


def choose_precision(train: Train, device: str) -> str:
    """Return "fp16", "bf16" or "none": what `train.precision` forces, else what the device has."""
    if train.precision != "auto":
        return train.precision
    if device == "cpu":
        return "none"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def resolved(train: Train) -> dict[str, object]:
    """What the machine decides of a training's bytes, for the key of its checkpoints."""
    device = choose_device(train)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": choose_precision(train, device),
        "threads": torch.get_num_threads(),
        "processes": processes.world(),
    }


def make_deterministic() -> None:
    """Make a GPU add up in the same order each time.

    See https://pytorch.org/docs/stable/notes/randomness.html.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # finds bugs, and costs time


@contextlib.contextmanager
def explain_out_of_memory(train: Train) -> Iterator[None]:
    """Say what to type where the block finds none.

    Raises:
        PipelineError: the GPU is out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise PipelineError(_with_less(train)) from None


def _with_less(train: Train) -> str:
    """Less at once, the same recipe."""
    if train.batch_size > 1:
        half = train.batch_size // 2
        return (
            f"the GPU is out of memory with train.batch_size={train.batch_size}; type `dvc exp run "
            f"-S train.batch_size={half}`: gradients are accumulated, so the recipe stays the same."
        )
    return (
        "the GPU is out of memory with one segment at a time; set train.gradient_checkpointing=true"
        ", train.freeze=convolutions or a shorter encode.segment_seconds."
    )


VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 1.0
_held: list[object] = []  # open files; the system frees their locks when the process ends, however


def claim_gpu(device: str) -> None:
    """Show this process one GPU alone, which no other job of this user has; wait until one is free.

    To be called before CUDA starts. A launcher hands out GPUs itself.

    Args:
        device: `train.device`.
    """
    import torch

    if device == "cpu" or processes.launched():
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
            log(f"{which} taken by other experiments: waiting for one")
            said = True
        time.sleep(POLL)
