"""prepare: assign each clip to training, validation or test, and audit the split for leaks.

Reads data/clips.csv, data/fingerprints.parquet and the protocol in metrics/data.json, if the
corpus' card names one; writes data/split.csv and metrics/split.json.
"""

from __future__ import annotations

import json

from genrepro.core.files import write_json, write_text
from genrepro.core.params import Params
from genrepro.core.paths import AUDIT, CLIPS, DATA, FINGERPRINTS, SPLIT
from genrepro.core.stage import log, record_speed
from genrepro.splits import audit, keep, protocols
from genrepro.splits.clips import read_clips, to_csv
from genrepro.splits.duplicates import near_identical, read_fingerprints


def main(params: Params) -> None:
    with record_speed("prepare"):
        clips = read_clips(CLIPS)
        compare = params.split.same_recordings
        matches = near_identical(*read_fingerprints(FINGERPRINTS)) if compare else []
        near = [(match.a, match.b) for match in matches]
        preferred = json.loads(DATA.read_text("utf-8"))["corpus"].get("protocol")
        protocol = protocols.resolve(params.split.protocol, clips, preferred)
        splits = protocols.split(
            clips,
            protocol,
            folds=params.split.folds,
            fold=params.split.fold,
            validation=params.split.validation,
            seed=params.seed,
            same=near,
        )
        if params.split.keep:
            units = protocols.units_of(clips, protocol, near)
            splits = keep.keep(units, splits, keep.read_split(SPLIT))
        report = {"protocol": protocol, "fold": params.split.fold}
        report |= audit.audit(clips, splits, near if compare else None)
        report["same_recording"] = [str(match) for match in matches]
        log(f"split.protocol={protocol}, split.fold={params.split.fold}\n{audit.table(report)}")
        if matches:
            log(f"{len(matches)} pair(s) of clips hold the same recording: see {AUDIT}")
        for warning in audit.check(report, protocol):
            log(f"warning: {warning}")
        write_text(SPLIT, to_csv(clips, splits))
        write_json(AUDIT, report)
