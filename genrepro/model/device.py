"""The device that a model is trained on, its precision, and what to do when its memory is full.

Experiments that run side by side each claim a GPU, or wait for one: `dvc queue start -j N` starts
its jobs without assigning GPUs, and each would take the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from genrepro.core import processes
from genrepro.core.errors import PipelineError, one_line
from genrepro.core.params import Evaluate, Train
from genrepro.core.stage import log

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 1.0  # seconds between two looks for a free GPU
LESS_MEMORY = "set evaluate.batch_size=1, or evaluate.device=cpu."  # in evaluate and export
_held: dict[str, object] = {}  # open files; the kernel releases their locks when the process ends


def set_up(train: Train) -> None:
    """Prepare this process for training. Call it before anything starts CUDA.

    Raises:
        PipelineError: the machine has a GPU that PyTorch cannot use, or none although
            `train.device` is cuda.
    """
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]  # set by `accelerate launch`; params.yaml decides what they would
    if train.device != "cpu":
        if processes.launched():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        else:
            claim_gpu()
        check_gpu("train.device")
    if choose_device(train) == "cuda" and train.deterministic:  # a CPU is deterministic anyway
        make_deterministic()


def set_up_inference(evaluate: Evaluate) -> str:
    """Prepare this process for evaluate or export; return the device. Call it before CUDA starts.

    Computation is in full float32 and repeatable.

    Raises:
        PipelineError: as `set_up`, for `evaluate.device`.
    """
    if evaluate.device != "cpu":
        claim_gpu()
        check_gpu("evaluate.device")
    device = choose_device(evaluate)
    if device == "cuda":
        make_deterministic()
        torch.backends.cudnn.allow_tf32 = False  # 10 bits, where ONNX Runtime and a CPU keep 23
    return device


def choose_device(section: Train | Evaluate) -> str:
    """Return "cuda" or "cpu", as the section's `device` asks and the machine has.

    Raises:
        PipelineError: a GPU is asked for and there is none, or a launcher has started more
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
    """Return what `train.precision` asks, else "fp16", "bf16" or "none" as the device supports it.

    PyTorch emulates bf16, slowly, on cards before Ampere: these get fp16.
    """
    if train.precision != "auto":
        return train.precision
    if device == "cpu":
        return "none"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(train: Train) -> AbstractContextManager:
    """The precision of the run, for computations that Trainer does not start."""
    device = choose_device(train)
    dtype = DTYPES.get(choose_precision(train, device))
    return contextlib.nullcontext() if dtype is None else torch.autocast(device, dtype)


def resolved(train: Train) -> dict[str, object]:
    """What the machine decides about the bytes of a run, for the key of its checkpoints."""
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


# All of CUDA's libraries run out of memory in their own words; when a library cannot even allocate
# its handle, it is "not initialized".
_OUT_OF_MEMORY = re.compile(
    r"CUDA.*out of memory|_ALLOC(ATION)?_FAILED|CU(BLAS|DNN)_STATUS_NOT_INITIALIZED"
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of PyTorch means that the GPU's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


@contextlib.contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn running out of GPU memory within the block into one sentence.

    Raises:
        PipelineError: the GPU is out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise PipelineError(f"the GPU is out of memory; {advice}") from None


def less_memory(train: Train) -> str:
    """What to type when memory runs out: the largest smaller batch that keeps the recipe."""
    share = train.effective_batch_size // processes.world()
    if smaller := [size for size in range(1, train.batch_size) if share % size == 0]:
        return (
            f"train.batch_size is {train.batch_size}: type `dvc exp run -S train.batch_size="
            f"{max(smaller)}`. Gradients are accumulated, so the recipe stays the same."
        )
    options = {
        "train.gradient_checkpointing=true": not train.gradient_checkpointing,
        "train.freeze=convolutions": train.freeze == "nothing",
        "a shorter encode.segment_seconds": True,
    }
    helps = [option for option, is_left in options.items() if is_left]
    return f"one segment at a time is too much for it: set {' or '.join(helps)}."


def check_gpu(key: str) -> None:
    """Check that PyTorch can compute on the GPU, if the machine has one.

    Args:
        key: the parameter that chooses the device, for the message.

    Raises:
        PipelineError: it cannot, which would mean hours on the CPU without a word.
    """
    if os.environ.get(VISIBLE) in ("", "-1"):  # hidden on purpose
        return
    with warnings.catch_warnings(record=True) as caught:  # PyTorch warns about drivers and cards
        warnings.simplefilter("always")
        reason = _try_gpu() if torch.cuda.is_available() else "PyTorch does not see it"
        installed = _nvidia_smi("--query-gpu=name,driver_version", "--format=csv,noheader")
    if not reason or (not torch.cuda.is_available() and not installed):
        return
    if caught and not torch.cuda.is_available():
        reason = one_line(caught[-1].message, 300)
    name, _, driver = (installed.splitlines() or [""])[0].rpartition(", ")
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    raise PipelineError(
        f"the GPU cannot be used ({reason}). Card: {name or 'unknown'}; driver: "
        f"{driver or 'unknown'}; PyTorch {torch.__version__}, built {built}. Update the driver, "
        f"install a PyTorch that supports this card, or set {key}=cpu."
    )


def _try_gpu() -> str:
    """Compute something on the GPU; return why that failed, or an empty string."""
    try:
        torch.ones(1, device="cuda").add(1).item()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise PipelineError(
                "the GPU's memory is full before training begins: `nvidia-smi` lists what uses it."
            ) from None
        return one_line(error)
    return ""


def claim_gpu() -> None:
    """Let this process see one GPU, which no other run of this user has; wait until one is free.

    To be called before CUDA starts. A launcher assigns GPUs itself.
    """
    gpus = visible_gpus()
    if not gpus:
        return
    try:
        os.environ[VISIBLE] = claim(gpus)
    except OSError as error:
        log(f"GPUs are not locked, and other runs may take the same one: {error}")


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs, or of their MIG instances, that this process may use.

    A UUID names the same card in every job, while Slurm and containers number their cards from 0.
    Numbers in CUDA_VISIBLE_DEVICES are those of nvidia-smi.
    """
    cards: list[list[str]] = []  # the card's UUID, then those of its MIG instances
    for uuid in re.findall(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)", _nvidia_smi("-L")):
        if uuid.startswith("GPU"):
            cards.append([uuid])
        else:
            cards[-1].append(uuid)
    numbered = [uuids[1:] or uuids for uuids in cards]
    if VISIBLE not in os.environ:
        return [uuid for uuids in numbered for uuid in uuids]
    allowed = []
    for entry in os.environ[VISIBLE].split(","):
        entry = entry.strip()
        if entry.isdecimal():
            found = numbered[int(entry)] if int(entry) < len(numbered) else []
        else:
            found = [uuid for uuids in cards for uuid in uuids if entry and uuid.startswith(entry)]
        if not found:
            break  # CUDA, too, ignores what follows an entry that it does not know
        allowed += found
    return allowed


def claim(gpus: list[str], home: Path | None = None) -> str:
    """Take a free GPU until this process ends, as soon as there is one.

    Args:
        gpus: UUIDs of those that may be taken.
        home: the folder of the locks; by default one of this user's, which nobody else can create.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = home or cache / "genrepro/gpus"
    home.mkdir(parents=True, exist_ok=True)
    waiting = False
    while True:
        for gpu in gpus:
            if gpu in _held:
                return gpu
            file = (home / gpu.replace("/", "_")).open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held[gpu] = file
            return gpu
        if not waiting:
            which = f"all {len(gpus)} GPUs are" if len(gpus) > 1 else "the GPU is"
            log(f"{which} in use by other experiments: waiting for one")
            waiting = True
        time.sleep(POLL)


def _nvidia_smi(*arguments: str) -> str:
    """What the driver reports, or an empty string where there is no driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
