"""Damaged files for every reader of foreign bytes: it reads, skips or refuses each in a sentence.

    python -m tests.support.fuzz --seed 7 --count 1500

Each reader runs in a process of its own with bounded memory, which is ended if one file takes it
longer than `PATIENCE`. Any other outcome is a fault: the seed and the number of the file, which
make the same bytes again, are printed with it.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 20  # seconds of CPU for one file; most are read in a fraction of one
MEMORY = 1 << 30  # bytes of address space above what the imports took
READERS = [
    "archive",
    "table",
    "parquet",
    "audio",
    "safetensors",
    "model_json",
    "card",
    "facts",
    "params",
]
READERS += ["encoded", "extractor", "config"]
HEAD = 0.4  # share of the damage that goes to a file's first bytes, where its structure is
TOKENS = (
    b"-1 0 1e999 99999999999999999999 NaN null true [] {} [[[[[[[[ {{{{ ' \" : - , \\ \\u0000 \x00"
    b" \xff\xfe \xed\xa0\x80 !!python/object/apply:os.system ../../etc/passwd /dev/zero *x &x <<: "
    b" \xef\xbb\xbf \r %s"
).split(b" ")
WORD = re.compile(rb"[^\s,:\[\]{}]+")
VALUES = (None, True, -1, 0, 1, 2**70, 10**9, 1e308, 1e-9, float("nan"))
VALUES += ("", "x", "../x", [], {}, [[1]])
HOW = ("flip", "flip", "cut", "repeat", "big", "drop")


class Hang(BaseException):
    """A reader kept one file too long."""


def damaged(content: bytes, chance: random.Random, text: bool) -> bytes:
    """Flip, cut, repeat, insert or, in text, replace a word by something nasty."""
    if content.startswith(b"{") and chance.random() < 0.7:
        return _other_value(json.loads(content), chance)
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        limit = min(len(data), 256) if chance.random() < HEAD else len(data)
        at = chance.randrange(limit) if limit else 0
        how = chance.choice(("token",) * 20 * text + HOW)
        if how == "token":
            words = list(WORD.finditer(data)) or [WORD.search(b"x")]
            start, end = chance.choice(words).span()
            data[start:end] = chance.choice(TOKENS)
        elif how == "flip":
            for place in range(at, min(at + chance.randint(1, 4), len(data))):
                data[place] = chance.randrange(256)
        elif how == "cut":
            del data[at:]
        elif how == "repeat":
            data[at:at] = data[at : at + chance.randint(1, 4096)] * chance.randint(1, 4)
        elif how == "big":
            data[at : at + 4] = chance.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"])
        else:
            del data[at : at + chance.randint(1, 64)]
    return bytes(data)


def _other_value(content: dict, chance: random.Random) -> bytes:
    """Valid JSON with other values."""
    for _ in range(chance.choice([1, 1, 2])):
        content[chance.choice(list(content))] = chance.choice(VALUES)
    if chance.random() < 0.2:
        del content[chance.choice(list(content))]
    return json.dumps(content).encode()


def work(reader: str, seed: int, count: int) -> None:
    """Try one reader in this process, and print {outcome: count, ...} as the last line."""
    from genrepro.core.errors import PipelineError

    text = reader in ("table", "model_json", "card", "facts", "params", "extractor", "config")
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        sources = _sources(reader, Path(folder), count)
        sources = itertools.chain([next(sources)], sources)  # imports first
        signal.signal(signal.SIGPROF, _hang)
        before = _bound_memory()
        for number, (content, read) in enumerate(sources):
            chance = random.Random(f"{seed} {reader} {number}")
            signal.setitimer(signal.ITIMER_PROF, PATIENCE)
            faulthandler.dump_traceback_later(10 * PATIENCE, exit=True)  # where Python cannot
            start = time.process_time()
            try:
                outcome = read(damaged(content, chance, text) if number else content)
            except (PipelineError, MemoryError) as error:  # stage.run has a sentence for each
                outcome = "refused" if len(str(error)) < 4000 else "fault: a long message"
            except (Exception, Hang):
                outcome = f"fault: seed {seed} {reader} {number}: {traceback.format_exc()}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            outcomes[outcome] += 1
            slowest = max(outcomes.get("slowest", 0), time.process_time() - start)
            outcomes["slowest"] = slowest
    faulthandler.cancel_dump_traceback_later()
    outcomes["megabytes"] = round((_peak() - before) / 1e6)
    print(json.dumps(outcomes))


def _sources(reader: str, folder: Path, count: int) -> Iterator[tuple[bytes, Callable]]:
    """The reader's intact files one after another, `count` in all."""
    from tests.support import fuzz_readers

    read = getattr(fuzz_readers, reader)
    (folder / "counted").mkdir()
    kinds = sum(1 for _ in read(folder / "counted"))
    (folder / "here").mkdir()
    for source in read(folder / "here"):
        yield from [source] * -(-count // kinds)


def _hang(number: int, frame: object) -> None:
    raise Hang


def _bound_memory() -> int:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    return _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attack(seed: int, count: int, readers: list[str]) -> dict[str, dict]:
    """Try `count` files on each reader, two at a time; the outcomes by reader."""
    found, waiting, running = {}, list(readers), {}
    while waiting or running:
        while waiting and len(running) < 2:
            reader = waiting.pop(0)
            command = [sys.executable, "-m", "tests.support.fuzz", "--reader", reader]
            running[reader] = subprocess.Popen(
                [*command, "--seed", str(seed), "--count", str(count)],
                cwd=ROOT,
                env=_environment(reader),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        reader, process = next(iter(running.items()))
        printed, _ = process.communicate()
        del running[reader]
        last = printed.splitlines()[-1] if process.returncode == 0 else ""
        found[reader] = json.loads(last) if last else {f"fault: {printed}": 1}
    return found


def _environment(reader: str) -> dict[str, str]:
    given = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    given |= {} if reader in ("extractor", "config") else {"USE_TORCH": "0"}  # as the corpus does
    return os.environ | given


def table(found: dict[str, dict]) -> str:
    lines = [f"{'reader':12}  read   skipped  refused  faults  slowest  memory"]
    for reader, outcomes in found.items():
        counts = [outcomes.get(name, 0) for name in ("read", "skipped", "refused")]
        lines.append(
            f"{reader:12} {counts[0]:5} {counts[1]:10} {counts[2]:8} {len(faults(outcomes)):7} "
            f"{outcomes.get('slowest', 0):6.2f} s {outcomes.get('megabytes', 0):4} MB"
        )
    return "\n".join(lines)


def faults(outcomes: dict[str, int]) -> list[str]:
    return [outcome for outcome in outcomes if outcome.startswith("fault")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--count", type=int, default=1500, help="files in all")
    parser.add_argument("--readers", default=",".join(READERS), help="separated by commas")
    parser.add_argument("--reader", help=argparse.SUPPRESS)  # of a child process
    args = parser.parse_args()
    if args.reader:
        work(args.reader, args.seed, args.count)
        return
    readers = args.readers.split(",")
    print(f"seed {args.seed}", flush=True)
    found = attack(args.seed, -(-args.count // len(readers)), readers)
    print(table(found))
    for outcomes in found.values():
        print("\n".join(faults(outcomes)), end="")
    sys.exit(any(map(faults, found.values())))


if __name__ == "__main__":
    main()
