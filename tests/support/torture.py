"""Kill each stage at random moments, run it again, and compare what it wrote with a quiet run.

    python -m tests.support.torture --seed 7 --kills 70

In a copy of this working tree, with a corpus of tones: the pipeline runs once undisturbed. Then
each stage in turn is put back to before it ran, started with `dvc repro`, killed with SIGKILL
(all of its processes) at a moment of its real duration, and run again until it ends. After a kill,
every output must be whole or not there; in the end it must have the undisturbed run's bytes, in
dvc.lock and on the disk.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support import pipeline_repo
from tests.support.samples import ROOT
from tests.support.torture_place import NOTHING, Differs, Place

PARAMS = {"train.epochs": 4, "export.onnx": True}  # enough epochs to be killed in
AGAIN = 0.3  # share of the runs after a kill that are killed too
RESUMED = ("from checkpoint-", "already encoded")  # what train and encode then print
MOST_RUNS = 12  # of one stage before it must have ended


@dataclass
class Tally:
    """The outcomes of one stage's kills."""

    kills: int = 0
    left_behind: int = 0  # kills that left a draft or unfinished work behind
    resumed: int = 0  # runs that resumed unfinished work
    compared: int = 0  # outputs
    cut_locks: int = 0  # kills while DVC itself wrote dvc.lock


class Torture:
    """Reference hashes and durations of a place, and the kills tried on it."""

    def __init__(self, place: Place, seed: int, stages: list[str]) -> None:
        self.place, self.stages = place, stages
        self.random = random.Random(seed)
        self.seconds: dict[str, float] = {}
        self.reference: dict[str, dict[str, str]] = {}
        self.tallies = {stage: Tally() for stage in stages}

    def undisturbed(self) -> None:
        """Run every stage, the ones not to be killed too, and keep what they wrote."""
        for stage in self.place.stages:
            if self.place.through_dvc or stage in self.stages or self._needed(stage):
                self.seconds[stage] = self.place.run(stage)
                self.reference[stage] = self.place.hashes(stage)

    def _needed(self, stage: str) -> bool:
        names = list(self.place.stages)
        return names.index(stage) < max(names.index(wanted) for wanted in self.stages)

    def kill(self, stage: str, kills: int) -> Iterator[str]:
        """Kill a stage so many times, at moments spread over its duration; yield the outcomes.

        Raises:
            Differs: an output is not what it was.
        """
        tally = self.tallies[stage]
        while tally.kills < kills:
            share = (tally.kills + self.random.random()) / kills
            self.place.put_back(stage, keep_outputs=self.random.random() < 0.5)
            runs = self._killed_until_done(stage, share * self.seconds[stage], tally)
            self._compare(stage, tally)
            yield f"{stage}: {tally.kills} kills, ended in run {runs}"

    def _killed_until_done(self, stage: str, moment: float, tally: Tally) -> int:
        for run in range(1, MOST_RUNS):
            seconds = self.place.run(stage, moment)
            if seconds is not None:
                resumed = any(words in self.place.printed() for words in RESUMED)
                tally.resumed += resumed
                if not resumed:  # the undisturbed run may have read cold files
                    self.seconds[stage] = (self.seconds[stage] + seconds) / 2
                return run
            tally.kills += 1
            tally.cut_locks += self.place.restore_lock()
            tally.left_behind += self.place.left_behind(stage)
            self._whole(stage)
            again = self.random.random() < AGAIN
            moment = self.random.random() * self.seconds[stage] if again else None
        raise Differs(f"{stage} did not end in {MOST_RUNS} runs")

    def _whole(self, stage: str) -> None:
        for path, found in self.place.on_disk(stage).items():
            if found not in (NOTHING, self.reference[stage][path]):
                raise Differs(f"a kill of {stage} left a part of {path}")

    def _compare(self, stage: str, tally: Tally) -> None:
        found, expected = self.place.hashes(stage), self.reference[stage]
        tally.compared += len(expected)
        if other := [key for key in expected if found.get(key) != expected[key]]:
            raise Differs(f"after a kill, {stage} gave other bytes: {', '.join(other)}")

    def table(self) -> str:
        lines = ["stage        seconds  kills  left behind  resumed  hashes compared, different"]
        for stage, tally in self.tallies.items():
            lines.append(
                f"{stage:12} {self.seconds[stage]:7.1f} {tally.kills:6} {tally.left_behind:12} "
                f"{tally.resumed:8} {tally.compared:10} 0"
            )
        kills = sum(tally.kills for tally in self.tallies.values())
        compared = sum(tally.compared for tally in self.tallies.values())
        cut = sum(tally.cut_locks for tally in self.tallies.values())
        lines.append(f"{kills} kills, {compared} hashes compared, 0 different")
        lines.append(f"{cut} times DVC was killed while it wrote dvc.lock, which was then restored")
        return "\n".join(lines)


def main() -> None:
    every = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the moments")
    parser.add_argument("--kills", type=int, default=70, help="in all, over the stages")
    parser.add_argument("--stages", default=",".join(every), help="to kill, separated by commas")
    args = parser.parse_args()
    stages = args.stages.split(",")
    each = -(-args.kills // len(stages))
    print(f"seed {args.seed}, at least {each} kills of each of {', '.join(stages)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        clone = pipeline_repo.clone(Path(folder) / "clone", **PARAMS)
        torture = Torture(Place(clone.path), args.seed, stages)
        try:
            torture.undisturbed()
            print("undisturbed:", torture.seconds, flush=True)
            for stage in stages:
                for line in torture.kill(stage, each):
                    print(line, flush=True)
        except Differs as fault:
            sys.exit(f"error: seed {args.seed}: {fault}")
        print(torture.table())


if __name__ == "__main__":
    main()
