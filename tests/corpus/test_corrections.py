"""data.corrections: clips under their right labels, clips left out, and what is reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrepro.core import reuse
from genrepro.core.errors import PipelineError
from genrepro.core.params import Data, Params, uncorrected
from genrepro.corpus import gather
from genrepro.corpus.corrections import Correction, read_table
from tests.support.samples import RATE, ROOT

LABELS = {"a1": "cat", "a2": "cat", "b1": "dog", "b2": "dog"}


@pytest.fixture
def pets(in_tmp, monkeypatch) -> Path:
    """Four clips, each with noise of its own, in corpora/pets."""
    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    for seed, (clip, label) in enumerate(LABELS.items()):
        path = in_tmp / "corpora/pets" / label / f"{clip}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, RATE // 5), RATE)
    return Path("corpora/pets")


def corrected(corpus: Path, table: str | None, **data: str) -> gather.Corpus:
    """Gather a corpus with a table of corrections, written beside it."""
    shutil.rmtree("raw", ignore_errors=True)
    path = corpus.parent / "corrections.csv"
    if table is not None:
        path.write_text(table)
    given = {"corpus": str(corpus), "facts": None, "name_pattern": None}
    given |= {"corrections": str(path)} | data
    return gather.gather(Data(**given), Path("raw"))


def labels(found: gather.Corpus) -> dict[str, str]:
    return {clip.item.clip: clip.item.label for clip in found.clips}


def files() -> set[str]:
    return {path.relative_to("raw").as_posix() for path in Path("raw").rglob("*.wav")}


def test_clips_get_their_right_labels_or_are_left_out_and_the_corpus_stays_as_it_is(pets):
    before = {path: path.read_bytes() for path in pets.rglob("*.wav")}
    found = corrected(pets, "\ufeffclip,label,note\r\na1,dog,barks\r\nb2,,two animals\r\n,,\r\n")
    assert labels(found) == {"a1": "dog", "a2": "cat", "b1": "dog"}
    assert files() == {"dog/a1.wav", "cat/a2.wav", "dog/b1.wav"}
    assert all(clip.item.path.exists() for clip in found.clips)
    summary = gather.summary(found)
    assert summary["corrections"] == {"relabelled": 1, "left_out": 1, "not_in_the_corpus": []}
    assert summary["labels"] == {"cat": 1, "dog": 2} and summary["skipped"] == []
    assert found.warnings == [] and found.lost == {}
    assert {path: path.read_bytes() for path in pets.rglob("*.wav")} == before


def test_without_the_parameter_or_without_entries_nothing_changes(pets):
    assert labels(corrected(pets, "clip,label\n")) == LABELS
    summary = gather.summary(corrected(pets, None, corrections=""))
    assert "corrections" not in summary and labels(corrected(pets, None, corrections="")) == LABELS


def test_a_label_that_is_already_right_counts_as_no_change(pets):
    found = corrected(pets, "clip,label\na1,cat\na2,dog\n")
    assert found.corrections == {"relabelled": 1, "left_out": 0, "not_in_the_corpus": []}


def test_a_label_s_last_clip_takes_its_folder_along(pets):
    with pytest.raises(PipelineError, match="clips of a single label, 'dog'"):
        corrected(pets, "clip,label\na1,dog\na2,\n")
    assert not Path("raw/cat").exists()


def test_facts_belong_to_a_clip_under_its_old_label_too(pets):
    (pets / "facts.csv").write_text(
        "clip,group\n" + "".join(f"{LABELS[c]}/{c},{c}\n" for c in LABELS)
    )
    found = corrected(pets, "clip,label\na1,dog\nb1,\n", facts=str(pets / "facts.csv"))
    assert [clip.facts["group"] for clip in found.clips] == ["a1", "a2", "b2"]
    assert found.warnings == []


def test_an_entry_for_a_clip_that_is_not_there_is_a_warning_and_a_new_label_too(pets):
    found = corrected(pets, "clip,label\na1,dogs\nb9,cat\n")
    assert found.corrections == {"relabelled": 1, "left_out": 0, "not_in_the_corpus": ["b9"]}
    new, gone = found.warnings
    assert "gives 1 clip the label 'dogs', which the corpus does not have (is it 'dog'?)" in new
    assert gone.endswith("lists 1 clip not in the corpus, e.g. 'b9'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("clip,label\nz,cat\n", r"lists none of the 4 clips, e.g. 'a1' \(it lists e.g. 'z'\)"),
        ("clip,label\na1,dog\na1,cat\n", "line 3 lists the clip 'a1' again"),
        ("clip,label,by\na1,dog,me\n", "needs the columns clip, label, note; it has: clip"),
        ("clip;label\na1;dog\n", "needs the columns clip, label, note"),
        ("clip,label\na1,..\n", "line 2: the label of 'a1' cannot be used"),
        ('clip,label\n"a1', "not readable as CSV"),
        (None, "there is no file corpora/corrections.csv: fix the path or set it to null"),
    ],
)  # fmt: skip
def test_wrong_corrections_are_refused(pets, content, words):
    with pytest.raises(PipelineError, match=f"data.corrections: .*{words}"):
        corrected(pets, content)


def test_corrections_that_dvc_does_not_watch_are_refused(pets):
    Path("elsewhere.csv").write_text("clip,label\na1,dog\n")
    with pytest.raises(PipelineError, match=r"data.corrections: elsewhere.csv .*DVC would not"):
        corrected(pets, None, corrections="elsewhere.csv")


def test_notes_are_read(in_tmp):
    Path("c.csv").write_text("note,clip,label\n two  animals ,a1,\n,b1,cat\n")
    assert read_table(Path("c.csv")) == {
        "a1": Correction("", "two animals"),
        "b1": Correction("cat"),
    }


def test_what_is_known_of_the_sounds_outlives_a_correction(in_tmp, params_yaml):
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    plain = Params.model_validate(params_yaml)
    data = params_yaml["data"] | {"corrections": "corpora/corrections.csv"}
    given = Params.model_validate(params_yaml | {"data": data})
    first, second = (reuse.kept("fetch_data", uncorrected(each), ()) for each in (plain, given))
    assert first == second != reuse.kept("fetch_data", given, ())
