"""Load the endpoint: requests per second, many clients at once, and uploads that are no sounds.

    python -m tests.support.load --bad 1000 --clients 50 --seconds 10

It starts `python -m tools.serve` on a free port, with the model and the test clips of this
repository. Every answer must be evaluate's prediction for the same clip, every bad upload must be
refused in JSON with a status from 400 to 422 (or be read, where the damage leaves a sound), and the
worker processes at the end must be those of the start.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.support.fuzz import damaged
from tests.support.samples import ROOT

PATIENCE = 120.0  # s for one answer
SENDERS = 4  # of bad uploads at once


@contextlib.contextmanager
def started(**environment: str) -> Iterator[tuple[str, int]]:
    """Run tools.serve in this folder; yield its address and process id. SIGTERM must end it."""
    command = [sys.executable, "-m", "tools.serve", "--port", "0"]
    server = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found, "tools.serve did not start"
        yield found[0], server.pid
        server.terminate()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()


def workers(pid: int) -> list[int]:
    """The process ids of a server's workers (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    spawned = [each for each in children if b"spawn_main" in _command(each)]
    return sorted(map(int, spawned))


def _command(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def peak_memory(pid: int) -> str:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return f"{int(found[1]) / 1e3:.0f} MB" if found else "unknown"


def _client() -> httpx2.Client:
    return httpx2.Client(timeout=PATIENCE, verify=False)  # no certificates to read: it is HTTP


def classify(client: httpx2.Client, url: str, content: bytes, name: str = "a.wav") -> dict:
    answer = client.post(f"{url}/classify", files={"file": (name, content)})
    return answer.raise_for_status().json()


def at_once(url: str, contents: list[bytes], clients: int) -> list[dict]:
    """One file from each of `clients` at the same moment, over connections of their own."""
    together = threading.Barrier(clients)

    def one(number: int) -> dict:
        with _client() as client:
            together.wait()
            return classify(client, url, contents[number % len(contents)], str(number))

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(clients)))


def per_second(url: str, contents: list[bytes], clients: int, seconds: float) -> float:
    """Answers per second to clients that each send one file after the other."""
    end = time.monotonic() + seconds

    def one(number: int) -> int:
        count = 0
        with _client() as client:
            for content in itertools.cycle(contents[number:] + contents[:number]):
                if time.monotonic() > end:
                    return count
                classify(client, url, content)
                count += 1
        return count

    begin = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        answered = sum(pool.map(one, range(clients)))
    return answered / (time.monotonic() - begin)


def bad_uploads(url: str, sounds: list[bytes], count: int, seed: int) -> Counter[int]:
    """Send `count` uploads that are damaged in some way; count the statuses of their answers."""

    def one(number: int) -> int:
        chance = random.Random(f"{seed} {number}")
        send = chance.choice(BAD)
        with _client() as client:
            answer = send(client, f"{url}/classify", chance, chance.choice(sounds))
        if answer is None:
            return 0
        sentence = answer.json().get("error", "") if answer.status_code != 200 else "Read."
        assert answer.status_code in (200, *range(400, 423)), (number, answer.text)
        assert sentence.endswith("."), (number, answer.text)
        return answer.status_code

    with ThreadPoolExecutor(SENDERS) as pool:
        return Counter(pool.map(one, range(count)))


Send = Callable[[httpx2.Client, str, random.Random, bytes], httpx2.Response | None]


def _damaged(client: httpx2.Client, url: str, chance: random.Random, sound: bytes):
    return client.post(url, files={"file": ("a.wav", damaged(sound, chance, False))})


def _noise(client: httpx2.Client, url: str, chance: random.Random, sound: bytes):
    return client.post(url, files={"file": ("a.mp3", chance.randbytes(chance.randrange(5000)))})


def _no_form(client: httpx2.Client, url: str, chance: random.Random, sound: bytes):
    kind = chance.choice(["multipart/form-data", "multipart/form-data; boundary=x", "audio/wav"])
    return client.post(url, content=sound[:2000], headers={"Content-Type": kind})


def _other_field(client: httpx2.Client, url: str, chance: random.Random, sound: bytes):
    fields = {chance.choice(["sound", "", "files"]): ("a.wav", sound)}
    return client.post(url, files=fields, data={"file": "no file"})


def _cut_off(client: httpx2.Client, url: str, chance: random.Random, sound: bytes) -> None:
    """Announce a sound, and hang up in the middle of it."""

    def half() -> Iterator[bytes]:
        yield sound[: len(sound) // 2]
        raise ConnectionError

    with contextlib.suppress(ConnectionError):
        client.post(
            url, content=half(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )


BAD: list[Send] = [_damaged, _damaged, _damaged, _noise, _no_form, _other_field, _cut_off]


def difference(answer: dict, expected: dict[str, float]) -> float:
    """The largest difference of a probability from evaluate's. The prediction is the same."""
    assert answer["label"] == max(expected, key=lambda label: expected[label]), answer
    largest = max(abs(p - expected[label]) for label, p in answer["probabilities"].items())
    assert largest < 1e-3, answer
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bad", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from tools import results

    clips = results.predictions()
    contents = [Path(path).read_bytes() for path in clips["path"]]
    expected = [results.probabilities(row) for _, row in clips.iterrows()]
    cases = [file.read_bytes() for file in sorted((ROOT / "tests/cases").glob("*.*"))]
    begin = time.monotonic()
    with started() as (url, pid), _client() as client:
        print(f"started in {time.monotonic() - begin:.1f} s")
        answers = [classify(client, url, content) for content in contents]
        largest = max(map(difference, answers, expected))
        print(f"{len(answers)} test clips: predicted as by evaluate, within {largest:.1e}")
        before = workers(pid)
        for clients in (1, args.clients):
            rate = per_second(url, contents, clients, args.seconds)
            print(f"{len(before)} workers, {clients} clients: {rate:.1f} answers per second")
        begin = time.monotonic()
        answers = at_once(url, contents, args.clients)
        for number, answer in enumerate(answers):
            assert answer["file"] == str(number)
            difference(answer, expected[number % len(expected)])
        print(f"{args.clients} at once: all answered in {time.monotonic() - begin:.1f} s")
        statuses = bad_uploads(url, contents[:5] + cases, args.bad, args.seed)
        print(f"{args.bad} bad uploads: {dict(sorted(statuses.items()))} (0: we hung up)")
        assert workers(pid) == before, "a worker died"
        classify(client, url, contents[0])
        print("peak memory of a worker:", ", ".join(map(peak_memory, before)))


if __name__ == "__main__":
    main()
