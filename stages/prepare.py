"""prepare: which clips train, choose and test a model, and an audit of that split.

Reads data/clips.csv and data/fingerprints.parquet; writes data/split.csv and metrics/split.json.
"""

from pathlib import Path

from genrepro import audit, splits
from genrepro.duplicates import near_identical, read_fingerprints
from genrepro.params import load
from genrepro.runtime import measured, run, say, write_json, write_text

CLIPS = Path("data/clips.csv")
FINGERPRINTS = Path("data/fingerprints.parquet")
SPLIT = Path("data/split.csv")
AUDIT = Path("metrics/split.json")


def main() -> None:
    params = load()
    with measured("prepare"):
        clips = splits.read_clips(CLIPS)
        matches = near_identical(read_fingerprints(FINGERPRINTS))
        near = [(match.a, match.b) for match in matches]
        protocol = splits.resolve(params.split.protocol, clips)
        parts = splits.split(
            clips,
            protocol,
            folds=params.split.folds,
            fold=params.split.fold,
            validation=params.split.validation,
            seed=params.seed,
            same=near,
        )
        report = {"protocol": protocol, "fold": params.split.fold}
        report |= audit.audit(clips, parts, near)
        report["same_recording"] = [str(match) for match in matches]
        say(f"split.protocol={protocol}, split.fold={params.split.fold}\n{audit.table(report)}")
        if matches:
            say(f"{len(matches)} pair(s) of clips hold the same recording: see {AUDIT}")
        for warning in audit.check(report, protocol):
            say(f"warning: {warning}")
        write_text(SPLIT, splits.to_csv(clips, parts))
        write_json(AUDIT, report)


if __name__ == "__main__":
    run(main)
