"""tools.layers: choosing a layer without the test clips."""

import csv
import re

import numpy as np
import pyarrow.parquet
import pytest

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.corpus.fingerprint import FRAMES_PER_SECOND
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.store import Encoded, write_index, write_shard
from tests.support.samples import ROOT, tiny_backbone, tone
from tools import layers

PARAMS = load(ROOT / "params.yaml")
BANDS = 6  # per label, of four clips each; the last band is in the test split


@pytest.fixture
def repo(in_tmp):
    """The outputs of the stages before train: 48 clips of two pitches by twelve bands."""
    extractor = adapt(
        load_extractor(tiny_backbone("whisper", in_tmp / "models/backbone")), PARAMS.encode, 1.0
    )
    rows, clips, split = [], [], []
    for label, pitch in (("high", 3000), ("low", 300)):
        for number in range(4 * BANDS):
            name, band = f"{label}.{number:02d}", number // 4
            wave = tone(pitch * (1 + number / 100), 1.0, seed=number)
            rows.append((name, 0, extract_segments(extractor, wave)[0]))
            clips.append((name, label, f"{label}-{band}", "", "", name))
            part = "test" if band == BANDS - 1 else "validation" if band == 0 else "train"
            split.append((name, label, part))
    (in_tmp / "data/encoded").mkdir(parents=True)
    shard = in_tmp / "data/encoded/data-00000-of-00001.arrow"
    write_shard(shard, rows, "input_features", 2)
    write_index(shard.parent, [shard])
    extractor.save_pretrained(shard.parent)
    tables = (
        (layers.CLIPS, ("clip", "label", "group", "title", "part", "sha256"), clips),
        (layers.SPLIT, ("clip", "label", "split"), split),
    )
    for path, columns, lines in tables:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *lines])
    write_fingerprints([name for name, *_ in clips])
    (in_tmp / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return in_tmp


@pytest.fixture
def output(repo, monkeypatch, capsys):
    """Run the tool; return its output and the rows of the corpus that it read."""
    read, get = set(), Encoded.__getitem__

    def watched(self, row):
        if len(self) == 8 * BANDS:
            read.add(row)
        return get(self, row)

    monkeypatch.setattr(Encoded, "__getitem__", watched)
    monkeypatch.setattr("sys.argv", ["layers"])
    layers.main()
    return capsys.readouterr().out, read


@pytest.mark.slow
def test_every_layer_has_a_row_and_the_lowest_loss_is_recommended(output):
    rows = re.findall(r"^ +(\d)  +(\S+)  (\S+) to (\S+)  +(\S+)$", output[0], re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "2"]
    for _, accuracy, low, high, _ in rows:
        assert float(low) <= float(accuracy) <= float(high) and float(accuracy) > 0.9
    best = min(rows, key=lambda row: float(row[4]))[0]
    assert f"-S train.layers={best} -S train.freeze=backbone -S train.probe=true" in output[0]
    assert "(40 clips)" in output[0]


@pytest.mark.slow
def test_no_test_clip_is_used(output):
    test = {row for row in range(8 * BANDS) if row % (4 * BANDS) // 4 == BANDS - 1}
    assert output[1] == set(range(8 * BANDS)) - test


def test_a_band_is_never_in_two_splits_of_a_fold(repo):
    names = [f"{label}.{n:02d}" for label in ("high", "low") for n in range(4 * (BANDS - 1))]
    pool = layers.Part(names, [0] * len(names), [], [])
    folds = layers.inner_folds(PARAMS, pool)
    assert len(folds) == layers.FOLDS
    for fold in folds:
        assert fold.keys() == set(names)
        for label in ("high", "low"):
            for band in range(BANDS - 1):
                clips = [f"{label}.{n:02d}" for n in range(4 * band, 4 * band + 4)]
                assert len({fold[clip] for clip in clips}) == 1
    assert all([fold[name] for fold in folds].count("test") == 1 for name in names)


def write_fingerprints(clips: list[str], copies: dict[str, str] | None = None) -> None:
    """Fingerprints of clips that differ, except for copies (clip -> the clip that it repeats)."""
    rng = np.random.default_rng(0)
    codes = {clip: rng.integers(0, 2**32, 400, dtype=np.uint32) for clip in clips}
    codes |= {copy: codes[clip] for copy, clip in (copies or {}).items()}
    table = pyarrow.table(
        {
            "clip": list(codes),
            "fingerprint": pyarrow.array(list(codes.values()), pyarrow.list_(pyarrow.uint32())),
        }
    )
    about = {"frames_per_second": str(FRAMES_PER_SECOND)}
    pyarrow.parquet.write_table(table.replace_schema_metadata(about), layers.FINGERPRINTS)


@pytest.mark.parametrize("protocol", ["stratified", "auto"])
def test_the_same_recording_is_never_in_two_splits_of_a_fold(repo, protocol):
    names = [f"{label}.{n:02d}" for label in ("high", "low") for n in range(4 * (BANDS - 1))]
    copies = {f"{label}.{n + 8:02d}": f"{label}.{n:02d}" for label in ("high", "low")
              for n in range(4)}  # fmt: skip
    pool = layers.Part(names, [0] * len(names), [], [])
    split = PARAMS.split.model_copy(update={"protocol": protocol, "same_recordings": False})

    def straddling(split) -> int:
        folds = layers.inner_folds(PARAMS.model_copy(update={"split": split}), pool)
        return sum(fold[a] != fold[b] for fold in folds for a, b in copies.items())

    bands = layers.CLIPS.read_text()  # without them: a band would be in one split anyway
    layers.CLIPS.write_text(re.sub(r",(high|low)-\d,", ",,", bands))
    write_fingerprints(names, copies)
    assert straddling(split) > 0
    assert straddling(split.model_copy(update={"same_recordings": True})) == 0


def test_without_a_backbone_it_names_the_command(in_tmp, monkeypatch):
    monkeypatch.setattr("sys.argv", ["layers"])
    with pytest.raises(PipelineError, match="type `dvc repro fetch_model`"):
        layers.main()
