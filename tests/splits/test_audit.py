"""The audit finds each kind of leak, counts GTZAN's, and states what a test split can show."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from genrepro.core import params
from genrepro.core.errors import PipelineError
from genrepro.corpus.fingerprint import FRAMES_PER_SECOND
from genrepro.splits.audit import audit, check, smallest_difference, table
from genrepro.splits.clips import Clip
from genrepro.splits.protocols import split
from stages import prepare
from tests.support.samples import ROOT

CLIPS = [
    Clip("a1", "x", group="Ann", title="Song", sha256="1"),
    Clip("a2", "x", group="Ann", title="Song", sha256="2"),
    Clip("a3", "x", group="Ann", title="Other", sha256="3"),
    Clip("b1", "y", group="", title="", sha256="4"),
    Clip("b2", "y", group="", title="", sha256="4"),
    Clip("b3", "y", group="Bob", title="", sha256="5"),
    Clip("b4", "y", group="Cid", title="", sha256="6"),
]
LEAKY = {
    "a1": "train", "a2": "test", "a3": "validation", "b1": "train", "b2": "test", "b3": "test"
}  # fmt: skip


def test_each_kind_of_leak_is_counted_and_named():
    report = audit(CLIPS, LEAKY, near=[("a2", "b1"), ("b3", "a3"), ("b4", "a1")])
    assert report["clips"] == {"train": 2, "validation": 1, "test": 3}
    assert report["left_out"] == 1
    assert report["leaks"] == {
        "test": {"groups": 1, "titles": 1, "identical": 1, "near_identical": 2},
        "validation": {"groups": 1, "titles": 0, "identical": 0, "near_identical": 0},
    }
    assert report["evidence"]["identical"] == ["b2 in test, b1 in train"]
    assert "b3 in test, a3 in validation" in report["evidence"]["near_identical"]
    assert report["missing"] == ["y in validation"]
    assert report["known_groups"] == {"train": 1, "validation": 1, "test": 2}


def test_a_leak_is_a_warning_and_with_grouped_an_error():
    report = audit(CLIPS, LEAKY)
    warnings = check(report, "course")
    assert any("1 of 3 test clips are byte for byte a clip in train" in line for line in warnings)
    with pytest.raises(PipelineError, match="grouped split leaks"):
        check(report, "grouped")
    clean = audit(CLIPS, {"a1": "train", "b1": "test"})
    assert check(clean, "grouped") == []


def test_the_table_for_people():
    lines = table(audit(CLIPS, LEAKY)).splitlines()
    assert re.fullmatch(r"label\s+train\s+validation\s+test", lines[0])
    assert re.fullmatch(r"x\s+1\s+1\s+1", lines[1])
    assert re.fullmatch(r"all\s+2\s+1\s+3", lines[3])
    assert lines[4] == "1 clips are in no split."


def test_gtzan_facts():
    """Of the course's 100 test clips 91 have a known artist, 79 of them also in training."""
    with (ROOT / "corpora/gtzan/clips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    clips = [
        Clip(row["clip"], row["clip"].split(".")[0], row["group"], row["title"], row["part"])
        for row in rows
        if row["clip"] != "jazz.00054"  # cannot be decoded
    ]
    options = {"folds": 10, "fold": 0, "validation": 0.1, "seed": 42}
    course = audit(clips, split(clips, "course", **options))
    assert len(clips) == 999
    assert course["clips"]["test"] == 100
    assert course["clips"]["train"] + course["clips"]["validation"] == 899
    assert course["known_groups"]["test"] == 91
    assert course["leaks"]["test"] == {
        "groups": 79, "titles": 19, "identical": 0, "near_identical": 0
    }  # fmt: skip
    published = audit(clips, split(clips, "published", **options))
    assert published["clips"] == {"train": 442, "validation": 197, "test": 290}
    assert check(published, "published") == []
    assert check(audit(clips, split(clips, "grouped", **options)), "grouped") == []


@settings(max_examples=60, deadline=None)
@given(clips=st.integers(30, 20_000), delta=st.floats(0.01, 0.15))
def test_the_smallest_difference_falls_with_the_clips(clips, delta):
    assert smallest_difference(2 * clips) < smallest_difference(clips)


def test_the_smallest_difference_is_found_four_times_in_five():
    """Simulated: McNemar's test at 0.05 finds the stated difference in about 80 of 100 trials."""
    rng = np.random.default_rng(0)
    for clips in (100, 500):
        delta = smallest_difference(clips)
        psi = max(0.2, delta)
        shares = [(psi + delta) / 2, (psi - delta) / 2, 1 - psi]
        better, worse, _ = rng.multinomial(clips, shares, size=4000).T
        with np.errstate(divide="ignore", invalid="ignore"):
            chi_square = np.nan_to_num((better - worse) ** 2 / (better + worse))
        assert (chi_square > 3.841).mean() == pytest.approx(0.8, abs=0.04)
        # the exact test, which tools.compare uses, is a little more cautious
        tail = np.minimum(1, 2 * binom.cdf(np.minimum(better, worse), better + worse, 0.5))
        assert (tail < 0.05).mean() > 0.68


def test_a_few_clips_show_nothing():
    assert smallest_difference(0) == smallest_difference(3) == 1.0
    assert 0.3 < smallest_difference(10) < 0.8


def write_corpus(folder: Path, groups: bool = True) -> dict[str, np.ndarray]:
    """40 clips of two labels in tmp/data; c00 and c05, of two groups, are copies."""
    rng = np.random.default_rng(1)
    prints = {f"c{i:02d}": rng.integers(1, 2**32, 100, dtype=np.uint32) for i in range(40)}
    prints["c05"] = prints["c00"] ^ (rng.random(100) < 0.3).astype(np.uint32)
    (folder / "data").mkdir()
    pd.DataFrame(
        {
            "clip": list(prints),
            "label": ["x", "y"] * 20,
            "sha256": range(40),
            "group": [f"g{i // 4}" if groups else "" for i in range(40)],
            "title": "",
            "part": "",
        }
    ).to_csv(folder / "data/clips.csv", index=False)
    table = pa.table({"clip": list(prints), "fingerprint": list(prints.values())})
    about = {"frames_per_second": str(FRAMES_PER_SECOND)}
    pq.write_table(table.replace_schema_metadata(about), folder / "data/fingerprints.parquet")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "metrics").mkdir()
    (folder / "metrics/data.json").write_text('{"corpus": {}}')
    return prints


def test_prepare_writes_the_split_and_its_audit(in_tmp, capsys):
    write_corpus(in_tmp)
    prepare.main(params.load())
    rows = list(csv.DictReader((in_tmp / "data/split.csv").open()))
    assert [row["clip"] for row in rows] == sorted(row["clip"] for row in rows)
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    splits = {row["clip"]: row["split"] for row in rows}
    assert splits["c00"] == splits["c05"]
    report = json.loads((in_tmp / "metrics/split.json").read_text())
    assert report["protocol"] == "grouped"
    assert report["same_recording"] == ["c00, c05: 1 of 100 bits differ over 4.6 s, +0.00 s apart"]
    assert "split.protocol=grouped, split.fold=0" in capsys.readouterr().out
    before = (in_tmp / "data/split.csv").read_bytes()
    prepare.main(params.load())
    assert (in_tmp / "data/split.csv").read_bytes() == before


def test_recordings_are_compared_unless_turned_off(in_tmp):
    write_corpus(in_tmp, groups=False)
    text = (in_tmp / "params.yaml").read_text()
    prepare.main(params.load())
    report = json.loads((in_tmp / "metrics/split.json").read_text())
    assert len(report["same_recording"]) == 1
    assert "near_identical" in report["leaks"]["test"]
    (in_tmp / "params.yaml").write_text(text.replace("recordings: true", "recordings: false"))
    prepare.main(params.load())
    report = json.loads((in_tmp / "metrics/split.json").read_text())
    assert report["same_recording"] == []
    assert "near_identical" not in report["leaks"]["test"]  # not 0: nobody has looked


def test_prepare_warns_about_the_course_split(in_tmp, capsys):
    write_corpus(in_tmp)
    text = (in_tmp / "params.yaml").read_text()
    (in_tmp / "params.yaml").write_text(text.replace("protocol: auto", "protocol: course"))
    prepare.main(params.load())
    assert "warning: " in capsys.readouterr().out
