"""Keep what benchmarks measure in results/<machine>.json, and print it as a table.

python -m benchmarks.table           print the table
python -m benchmarks.table --write   and put it into benchmarks/README.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from genrepro.core.files import write_json, write_text
from genrepro.core.stage import log

README = Path(__file__).parent / "README.md"
START, END = "<!-- table: python -m benchmarks.table --write -->", "<!-- end of table -->"
PACKAGES = ("torch", "transformers", "datasets", "onnxruntime", "numpy")
ROWS = (
    "| what | instead of | here | factor, median | lowest to highest | command |\n"
    "|---|---|---|---|---|---|"
)
LEVERS = (
    "| train stage with | seconds per epoch | first step, s | waits for data | GPU memory, MB |\n"
    "|---|---|---|---|---|"
)
Figures = dict[str, list[dict[str, float]]]


def rounds(ways: dict[str, Callable[[], dict[str, float]]], count: int) -> Figures:
    """Call each way in turn (A B A B A B); return each way's figures by round.

    A machine that others use slows both alike, so what counts is the factor within a round.
    """
    figures: Figures = {name: [] for name in ways}
    for number in range(count):
        for name, way in ways.items():
            figures[name].append(way())
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures[name][-1].items())
            log(f"round {number + 1} of {count}, {name}: {shown}")
    return figures


def row(
    what: str, unit: str, figures: Figures, key: str, before: str, here: str, per: float = 1
) -> dict[str, object]:
    """A line of the table: the figure `key` of one way against another's, divided by `per`."""
    values = {name: [each[key] / per for each in figures[name]] for name in (before, here)}
    factors = [a / b for a, b in zip(values[before], values[here])]
    factor = {"median": statistics.median(factors), "low": min(factors), "high": max(factors)}
    return {
        "what": what,
        "unit": unit,
        "before": {"name": before, "values": [_rounded(value) for value in values[before]]},
        "here": [_rounded(value) for value in values[here]],
        "factor": {name: _rounded(value) for name, value in factor.items()},
    }


def record(
    benchmark: str,
    folder: Path,
    setting: dict[str, object],
    rows: list[dict],
    where: str | None = None,
) -> None:
    """Put a benchmark's rows into <folder>/<machine>.json."""
    where = where or machine()
    path = folder / f"{re.sub('[^a-z0-9]+', '-', where.lower()).strip('-')}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"benchmarks": {}}
    kept["benchmarks"][benchmark] = {
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *_shown(sys.argv[1:])]),
        "setting": setting | {"versions": {each: version(each) for each in PACKAGES}},
        "rows": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": where, "benchmarks": dict(sorted(kept["benchmarks"].items()))})


def _shown(arguments: list[str]) -> list[str]:
    """The command line without --results and folders, which mean nothing on another machine."""
    pairs = zip(arguments, [*arguments[1:], ""])
    hidden = {"--results", "--corpus", "--model"}
    dropped = [i for i, (name, _) in enumerate(pairs) if name in hidden]
    return [each for i, each in enumerate(arguments) if i not in dropped and i - 1 not in dropped]


def machine() -> str:
    """This machine's processor, such as "2-core AMD EPYC"."""
    facts = Path("/proc/cpuinfo")  # Linux
    found = re.search(r"model name\s*:\s*(.+)", facts.read_text()) if facts.exists() else None
    kind = found[1] if found else platform.processor() or platform.machine()
    return f"{len(os.sched_getaffinity(0)) if found else os.cpu_count()}-core {kind.strip()}"


def table(folder: Path) -> str:
    """The rows of every machine, and what each option of the train stage does on a GPU."""
    found = [_machine(path) for path in sorted(folder.glob("*.json"))]
    if not any("benchmarks.gpu" in text for text in found):
        found.append("On a GPU: not measured; type `python -m benchmarks.gpu` where there is one.")
    return "\n\n".join(found)


def _machine(path: Path) -> str:
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"**{found['machine']}**", "", ROWS]
    for benchmark in found["benchmarks"].values():
        lines += [_line(row, benchmark["command"]) for row in benchmark["rows"]]
    for benchmark in found["benchmarks"].values():
        if levers := benchmark["setting"].get("levers"):
            lines += ["", LEVERS, *(_lever(name, found) for name, found in levers.items())]
    return "\n".join(lines)


def _line(row: dict, command: str) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    before, here = (
        f"{_short(statistics.median(values))}{unit}"
        for values in (row["before"]["values"], row["here"])
    )
    middle, low, high = (_short(row["factor"][key]) for key in ("median", "low", "high"))
    spread = f"{low} to {high}" if len(row["here"]) > 1 else "once"
    cells = [row["what"], f"{row['before']['name']}: {before}", here, middle, spread]
    return f"| {' | '.join(cells)} | `{' '.join(command.split()[:3])}` |"


def _lever(name: str, found: dict) -> str:
    if "error" in found:
        return f"| {name} | {found['error']} | | | |"
    cells = [_short(found[key]) for key in ("epoch", "first_step")]
    cells += [f"{found['waiting']:.1%}", f"{found['memory']:.0f}"]
    return f"| {name} | {' | '.join(cells)} |"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=README.parent / "results")
    parser.add_argument("--write", action="store_true", help="put it into benchmarks/README.md")
    args = parser.parse_args()
    text = table(args.results)
    print(text)
    if args.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        write_text(README, f"{before}{START}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
