"""Print the results as a Markdown table; with --write, put them into benchmarks/README.md.

python -m benchmarks.table
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.pairs import RESULTS
from genrepro.core.files import write_text

README = Path(__file__).parent / "README.md"
START, END = "<!-- table: python -m benchmarks.table --write -->", "<!-- end of table -->"
GPU = "python -m benchmarks.gpu"
NOT_MEASURED = (
    "10 epochs of 899 × 30 s on a GPU",
    "training, peak memory of the GPU, batch 8 × 30 s",
)
HEADER = [
    "| what | A | B | A | B | A / B, median | lowest to highest | command |",
    "|---|---|---|---|---|---|---|---|",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="into benchmarks/README.md too")
    args = parser.parse_args()
    text = table(args.results)
    print(text)
    if args.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        write_text(README, f"{before}{START}\n{text}\n{END}{after}")


def table(folder: Path) -> str:
    """A table a machine, with the rows in the order in which the benchmarks ran."""
    return "\n\n".join(_machine(path) for path in sorted(folder.glob("*.json")))


def _machine(path: Path) -> str:
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"**{found['machine']}**", "", *HEADER]
    for benchmark in found["benchmarks"].values():
        lines += [_line(row, benchmark["command"]) for row in benchmark["rows"]]
    if "gpu" not in found["benchmarks"]:
        lines += [f"| {what} | | | | | not measured | | `{GPU}` |" for what in NOT_MEASURED]
    return "\n".join(lines + _parity(found["benchmarks"]))


def _line(row: dict, command: str) -> str:
    unit = f" {row['unit']}" if row["unit"] else ""
    a, b = (f"{_short(statistics.median(row[key]['values']))}{unit}" for key in ("course", "ours"))
    middle, low, high = (_short(row["ratio"][key]) for key in ("median", "low", "high"))
    cells = [row["what"], row["course"]["name"], row["ours"]["name"], a, b, middle]
    spread = f"{low} to {high}" if len(row["ours"]["values"]) > 1 else "once"
    return f"| {' | '.join(cells)} | {spread} | `{command}` |"


def _parity(benchmarks: dict) -> list[str]:
    found = benchmarks.get("inference", {}).get("setting", {}).get("largest_logit_difference", [])
    if not found:
        return []
    names = [name for name in found[0] if name not in ("seconds", "batch")]
    lines = ["", "Largest difference of a logit from PyTorch's, random weights:", ""]
    lines += [f"| seconds | batch | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for each in found:
        values = " | ".join(f"{each[name]:.1e}" for name in names)
        lines.append(f"| {each['seconds']:g} | {each['batch']} | {values} |")
    return lines


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
