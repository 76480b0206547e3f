"""fetch_data: copy the corpus that data.corpus names to data/raw, and record its facts.

Writes data/raw/<label>/<clip>.<ext>, data/clips.csv, data/fingerprints.parquet, metrics/data.json.
"""

from __future__ import annotations

from pathlib import Path

from genrepro.core import reuse
from genrepro.core.files import atomic_output, write_json, write_text
from genrepro.core.params import Params, uncorrected
from genrepro.core.paths import CLIPS, DATA, FINGERPRINTS, RAW
from genrepro.core.stage import log, record_speed
from genrepro.corpus import gather

REPLACING = RAW.with_name(".raw.newer.part")  # there while RAW may be newer than CLIPS


def main(params: Params) -> None:
    watched = (Path("corpora"), Path(params.data.corpus))
    earlier = reuse.kept("fetch_data", uncorrected(params), clips=watched)
    with record_speed("fetch_data") as figures:
        if not REPLACING.exists():
            gather.refuse_foreign(RAW, CLIPS)
        with atomic_output(RAW) as raw, atomic_output(FINGERPRINTS) as fingerprints:
            corpus = gather.gather(params.data, raw, earlier)
            gather.write_fingerprints(corpus, fingerprints)
            REPLACING.touch()
        write_text(CLIPS, gather.table(corpus, RAW))
        REPLACING.unlink()
        summary = gather.summary(corpus)
        write_json(DATA, summary)
        figures["clips"] = len(corpus.clips)
        figures["skipped"] = len(corpus.skipped)
    warnings = list(corpus.warnings)
    if cut := summary["cut_short"]:
        warnings.append(f"{len(cut)} clips are cut short or damaged, e.g. {cut[0]['clip']}")
    for warning in warnings:
        log(f"warning: {warning}; see {DATA}")
    log(
        f"{len(corpus.clips)} clips of {len(summary['labels'])} labels, "
        f"{summary['seconds'] / 60:.1f} minutes; {len(corpus.skipped)} files skipped"
    )
    if corrected := corpus.corrections:
        log(f"corrections: {corrected['relabelled']} relabelled, {corrected['left_out']} left out")
