"""Two or more ways to do the same, in turns (A B A B A B), and what is kept of that.

A machine that others use too slows both ways alike, so it is the ratio within a round that counts;
its spread over the rounds says how far to trust it.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import re
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch

from genrepro.core.files import write_json
from genrepro.core.processes import workers
from genrepro.core.stage import log

RESULTS = Path(__file__).parent / "results"
Result = TypeVar("Result")
PACKAGES = ("torch", "transformers", "datasets", "onnxruntime", "numpy")


def options(
    description: str | None, clips: int, seconds: float = 30.0, pairs: int = 3
) -> argparse.ArgumentParser:
    """A benchmark's command line; the defaults are small enough for a laptop."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=clips, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=seconds, help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=pairs, help="rounds; default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="default: every core")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of <machine>.json; default: here"
    )
    return parser


def threads(args: argparse.Namespace) -> None:
    """Let PyTorch compute with as many threads as asked."""
    args.threads = args.threads or workers()
    torch.set_num_threads(args.threads)


def clock(args: argparse.Namespace) -> str:
    """Which seconds to count: with one thread those of CPU, which other people's work lengthens
    less; with more, threads wait for each other at work, and the wall's clock is the one."""
    return "cpu" if args.threads == 1 else "wall"


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of one call: on the wall, and of CPU, with all threads and finished children."""
    gc.collect()
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """What a top-level function returns in a process of its own, in the same folder."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def peak_memory() -> float:
    """This process's highest resident memory, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def cpu_seconds() -> float:
    """Seconds of CPU so far, of this process and its finished children."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def rounds(ways: dict[str, Callable[[], dict[str, float]]], count: int) -> dict[str, list[dict]]:
    """Call each way once a round, in the order given; return each way's figures by round."""
    figures: dict[str, list[dict]] = {name: [] for name in ways}
    for number in range(count):
        for name, way in ways.items():
            figures[name].append(way())
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures[name][-1].items())
            log(f"round {number + 1} of {count}, {name}: {shown}")
    return figures


def ratio(first: list[float], second: list[float]) -> dict[str, float]:
    """How many times `first` is `second`, round by round: median, lowest and highest."""
    each = [a / b for a, b in zip(first, second)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def row(
    what: str, unit: str, course: tuple[str, list[float]], ours: tuple[str, list[float]]
) -> dict[str, object]:
    """One line of the table: `course` against `ours`, each a name and a figure a round."""
    return {
        "what": what,
        "unit": unit,
        "course": {"name": course[0], "values": [_rounded(value) for value in course[1]]},
        "ours": {"name": ours[0], "values": [_rounded(value) for value in ours[1]]},
        "ratio": {key: _rounded(value) for key, value in ratio(course[1], ours[1]).items()},
    }


def against_first(
    figures: dict[str, list[dict]], what: str, unit: str, key: str, count: float = 1
) -> list[dict[str, object]]:
    """A line for each way but the first, against the first; its name ends what the line says."""
    first, *others = figures
    return [
        row(
            f"{what}, {name}",
            unit,
            (first, per(figures[first], key, count)),
            ("here", per(figures[name], key, count)),
        )
        for name in others
    ]


def per(figures: list[dict], key: str, count: float = 1) -> list[float]:
    """One figure of each round, divided by how many clips, steps or seconds it stands for."""
    return [each[key] / count for each in figures]


def record(name: str, folder: Path, setting: dict[str, object], rows: list[dict]) -> None:
    """Put a benchmark's rows into <folder>/<machine>.json; other benchmarks' rows stay."""
    path = folder / f"{re.sub('[^a-z0-9]+', '-', machine().lower()).strip('-')}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"benchmarks": {}}
    kept["machine"] = machine()
    kept["benchmarks"][name] = {
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *_asked(sys.argv[1:])]),
        "setting": setting | {"versions": {each: version(each) for each in PACKAGES}},
        "rows": rows,
    }
    kept["benchmarks"] = dict(sorted(kept["benchmarks"].items()))
    write_json(path, dict(sorted(kept.items(), reverse=True)))
    for each in rows:
        middle, low, high = (each["ratio"][key] for key in ("median", "low", "high"))
        log(f"{each['what']}: {middle:.3g} times ({low:.3g} to {high:.3g})")


def _asked(arguments: list[str]) -> list[str]:
    """The command line without --results, whose folder is nobody's business."""
    kept = [argument for argument in arguments if not argument.startswith("--results=")]
    if "--results" in kept:
        place = kept.index("--results")
        del kept[place : place + 2]
    return kept


def machine() -> str:
    """What computes, without its name: such as "2-core AMD EPYC"."""
    facts = Path("/proc/cpuinfo")  # Linux
    found = re.search(r"model name\s*:\s*(.+)", facts.read_text()) if facts.exists() else None
    kind = found[1] if found else platform.processor() or platform.machine()
    return f"{len(os.sched_getaffinity(0)) if found else os.cpu_count()}-core {kind.strip()}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
