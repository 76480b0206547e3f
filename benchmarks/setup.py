"""What every benchmark needs: options, generated clips, DistilHuBERT's shape, clocks, processes.

The weights are random: the speed does not depend on them.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
import torch
import yaml
from transformers import HubertConfig, Wav2Vec2FeatureExtractor
from transformers.utils import logging

from genrepro.core import paths
from genrepro.core.files import sha256
from genrepro.core.params import Params, load
from genrepro.core.processes import workers

RATE = 22_050  # Hz, as GTZAN's, so that both sides resample
LABELS = [f"genre{number}" for number in range(10)]
REPOSITORY = Path(__file__).parents[1]
Result = TypeVar("Result")


def options(description: str | None, clips: int, seconds: float = 30.0) -> argparse.ArgumentParser:
    """A benchmark's command line; the defaults suit a laptop."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=clips, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=seconds, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="default: every core")
    parser.add_argument("--narrow", action="store_true", help="fewer channels, for a quick try")
    parser.add_argument(
        "--results",
        type=lambda name: Path(name).absolute(),
        default=REPOSITORY / "benchmarks/results",
        help="folder for <machine>.json; default: benchmarks/results",
    )
    return parser


def set_threads(args: argparse.Namespace) -> None:
    """Let PyTorch use as many threads as asked for."""
    args.threads = args.threads or workers()
    torch.set_num_threads(args.threads)


@contextlib.contextmanager
def workplace(clips: int, seconds: float, distinct: int = 64) -> Iterator[list[Path]]:
    """Work in a temporary folder, as fetch_data and fetch_model would leave it.

    Args:
        distinct: how many clips have audio of their own; the others are hard links to these.

    Yields the clips' paths: WAV, 16 bits, 22,050 Hz, mono.
    """
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in (paths.PIPELINE, "genrepro", "stages"):
            Path(name).symlink_to(REPOSITORY / name)  # a stage hashes the code it depends on
        set_params()
        written = _write_clips(clips, seconds, distinct)
        paths.BACKBONE.mkdir(parents=True)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(paths.BACKBONE)
        yield written


def set_params(**changes: dict[str, object]) -> Params:
    """Write the repository's params.yaml with these changes, by section, to the current folder."""
    params = yaml.safe_load((REPOSITORY / paths.PARAMS).read_text(encoding="utf-8"))
    params["train"] |= {"freeze": "nothing", "learning_rate": 5e-5}  # the course's
    for section, values in changes.items():
        params[section] |= values
    paths.PARAMS.write_text(yaml.safe_dump(params), encoding="utf-8")
    return load()


def _write_clips(count: int, seconds: float, distinct: int) -> list[Path]:
    rows: list[dict[str, object]] = []
    written: list[Path] = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        path = paths.RAW / label / f"{label}.{number:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < distinct:
            soundfile.write(path, sound(number, seconds), RATE, subtype="PCM_16")
            digest = sha256(path)
        else:
            path.hardlink_to(written[number % distinct])
            digest = str(rows[number % distinct]["sha256"])
        written.append(path)
        rows.append(
            {"clip": path.stem, "path": path.as_posix(), "label": label, "sha256": digest}
            | {"seconds": f"{seconds:.3f}", "sample_rate": RATE, "channels": 1}
            | {"group": "", "title": "", "part": ""}
        )
    rows.sort(key=lambda row: str(row["clip"]))
    _write_csv(paths.CLIPS, rows)
    return written


def write_split(clips: Sequence[Path], train: int, validation: int) -> None:
    """Write data/split.csv: so many clips for training and validation, the rest for testing."""
    splits = ["train"] * train + ["validation"] * validation
    splits += ["test"] * (len(clips) - len(splits))
    rows = [
        {"clip": path.stem, "label": path.parent.name, "split": split}
        for path, split in zip(clips, splits)
    ]
    _write_csv(paths.SPLIT, rows)


def _write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def sound(seed: int, seconds: float) -> np.ndarray:
    """A chord with noise, float32 (samples,) at RATE."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in random.uniform(80, 2000, 4))
    return (0.15 * chord + random.normal(0, 0.05, len(time))).astype(np.float32)


def extractor() -> Wav2Vec2FeatureExtractor:
    """DistilHuBERT's, with the attention mask that the course asks for."""
    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)


def shape(narrow: bool) -> HubertConfig:
    """The config of ntu-spml/distilhubert at fa87d962 with ten labels; narrow: fewer channels."""
    config = {
        "num_hidden_layers": 2,
        "feat_proj_layer_norm": False,
        "feat_proj_dropout": 0.0,
        "final_dropout": 0.0,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: number for number, label in enumerate(LABELS)},
    }
    if narrow:
        config |= {"conv_dim": (16,) * 7, "hidden_size": 48, "intermediate_size": 96}
        config |= {"num_hidden_layers": 1, "num_attention_heads": 1}
    return HubertConfig(**config)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of one call: wall-clock ("wall"), and CPU with all threads and ended children."""
    gc.collect()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    return {"wall": time.perf_counter() - wall, "cpu": _cpu_seconds() - cpu}


def _cpu_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def peak_memory(who: int = resource.RUSAGE_SELF) -> float:
    """The highest resident memory so far, of this process or its ended children, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e6


def alone(
    function: Callable[..., Result],
    *arguments: object,
    timeout: float | None = None,
    preload: Sequence[str] = (),
) -> Result:
    """What a top-level function returns in a process of its own, in the current folder.

    Args:
        timeout: seconds after which the process is killed.
        preload: modules that are imported once for all calls, so that a call starts at once.

    Raises:
        RuntimeError: the function failed or took too long.
    """
    context = multiprocessing.get_context("forkserver" if preload else "spawn")
    os.environ |= importable()  # Python 3.11 preloads without this process's sys.path
    if preload:
        context.set_forkserver_preload(list(preload))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise RuntimeError(f"stopped after {timeout:.0f} s")
        done, result = receiver.recv()
    except EOFError:
        done, result = False, "its process died"
    finally:
        process.kill()
        process.join()
    if not done:
        raise RuntimeError(result)
    return result


def timed_alone(function: Callable[..., dict], *arguments: object, **how) -> dict[str, float]:
    """What `alone` gives, and the seconds of the whole process, imports included."""
    start = time.perf_counter()
    figures = alone(function, *arguments, **how)
    return figures | {"process": time.perf_counter() - start}


def importable() -> dict[str, str]:
    """The environment in which a child process imports this repository from anywhere, quietly."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    found = [str(REPOSITORY), *(each for each in others if each and each != str(REPOSITORY))]
    return {"PYTHONPATH": os.pathsep.join(found), "TRANSFORMERS_VERBOSITY": "error"}


def _send(sender, function: Callable, arguments: tuple) -> None:
    try:
        sender.send((True, function(*arguments)))
    except Exception as error:
        traceback.print_exc()
        sender.send((False, f"{type(error).__name__}: {error}".splitlines()[0][:300]))
