"""fetch_data: the corpus that data.corpus names, as data/raw, with what is known of each clip.

Writes data/raw/<label>/<clip>.<ext>, data/clips.csv, data/fingerprints.parquet, metrics/data.json.
"""

from pathlib import Path

from genrepro import corpus
from genrepro.params import load
from genrepro.runtime import measured, run, say, staged, write_json, write_text

RAW = Path("data/raw")
CLIPS = Path("data/clips.csv")
FINGERPRINTS = Path("data/fingerprints.parquet")
METRICS = Path("metrics/data.json")


def main() -> None:
    params = load()
    with measured("fetch_data") as figures:
        with staged(RAW) as raw, staged(FINGERPRINTS) as fingerprints:
            found = corpus.gather(params.data, raw)
            corpus.write_fingerprints(found, fingerprints)
        write_text(CLIPS, corpus.table(found, RAW))
        summary = corpus.summary(found)
        write_json(METRICS, summary)
        figures["clips"] = len(found.clips)
        figures["set_aside"] = len(found.set_aside)
    say(
        f"{len(found.clips)} clips of {len(summary['labels'])} labels, "
        f"{summary['seconds'] / 60:.1f} minutes; {len(found.set_aside)} files set aside"
    )


if __name__ == "__main__":
    run(main)
