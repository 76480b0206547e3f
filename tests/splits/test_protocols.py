"""Splits: nothing in two splits, every label in each or a clear error, the same every time."""

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from genrepro.core.errors import PipelineError
from genrepro.splits.balance import balanced_folds
from genrepro.splits.clips import SPLITS, Clip, read_clips, to_csv
from genrepro.splits.protocols import resolve, split

LABELS = ("blues", "jazz", "métal", "rock")
GOLDEN_TEST = [
    "blues.000",
    "blues.012",
    "jazz.017",
    "jazz.021",
    "métal.002",
    "métal.018",
    "rock.011",
    "rock.019",
]
GOLDEN_VALIDATION = ["blues.008", "jazz.009", "métal.022", "rock.023"]
bounded = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def corpora(draw, most: int = 80):
    """Random clips: labels of very different sizes, groups that span labels, repeated bytes."""
    count = draw(st.integers(8, most))
    labels = draw(st.lists(st.sampled_from(LABELS), min_size=count, max_size=count))
    groups = draw(
        st.lists(
            st.sampled_from(["", *(f"g{i}" for i in range(15))]), min_size=count, max_size=count
        )
    )
    hashes = draw(st.lists(st.integers(0, 3 * count), min_size=count, max_size=count))
    return [
        Clip(f"{label}.{i:05d}", label, group, sha256=f"{digest:064x}")
        for i, (label, group, digest) in enumerate(zip(labels, groups, hashes))
    ]


def plain(count: int, labels: int = 4, clips_per_group: int = 0) -> list[Clip]:
    return [
        Clip(
            f"{LABELS[i % labels]}.{i:03d}",
            LABELS[i % labels],
            f"g{i % labels}-{i // labels // clips_per_group}" if clips_per_group else "",
        )
        for i in range(count)
    ]


def cut(clips, protocol="auto", **changes) -> dict[str, str]:
    options = {"folds": 3, "fold": 0, "validation": 0.2, "seed": 42} | changes
    return split(clips, protocol, **options)


def by_split(splits: dict[str, str]) -> dict[str, set[str]]:
    found = defaultdict(set)
    for clip, name in splits.items():
        found[name].add(clip)
    return found


@bounded
@given(
    clips=corpora(),
    protocol=st.sampled_from(["stratified", "grouped", "course"]),
    folds=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
    validation=st.floats(0.05, 0.5),
    shuffle=st.randoms(use_true_random=False),
)
def test_a_split_is_whole_clean_and_repeatable(clips, protocol, folds, seed, validation, shuffle):
    options = {"folds": folds, "seed": seed, "validation": validation, "fold": folds - 1}
    same = [(clips[0].clip, clips[-1].clip)]
    try:
        splits = cut(clips, protocol, same=same, **options)
    except PipelineError as error:
        assert any(repr(label) in str(error) for label in LABELS) or "label(s)" in str(error)
        assume(False)
    assert list(splits) == sorted(clip.clip for clip in clips)
    assert {(clip.label, splits[clip.clip]) for clip in clips} == {
        (clip.label, name) for clip in clips for name in SPLITS
    }
    if protocol == "grouped":
        for fact in (lambda clip: clip.group, lambda clip: clip.sha256):
            found = defaultdict(set)
            for clip in clips:
                found[fact(clip)].add(splits[clip.clip])
            assert all(len(names) == 1 for value, names in found.items() if value)
        assert splits[clips[0].clip] == splits[clips[-1].clip]
    shuffled = list(clips)
    shuffle.shuffle(shuffled)
    assert cut(shuffled, protocol, same=same, **options) == splits


@bounded
@given(clips=corpora(), folds=st.integers(2, 8), seed=st.integers(0, 2**32 - 1))
def test_folds_partition_the_clips_and_spread_each_label(clips, folds, seed):
    assigned = balanced_folds([(clip,) for clip in clips], folds, seed)
    names = [clip.clip for fold in assigned for unit in fold for clip in unit]
    assert sorted(names) == sorted(clip.clip for clip in clips)
    for label in LABELS:
        counts = [sum(unit[0].label == label for unit in fold) for fold in assigned]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("protocol", ["stratified", "grouped"])
def test_each_clip_is_tested_in_exactly_one_fold(protocol):
    clips = plain(120, clips_per_group=3)
    tested = Counter(
        clip
        for fold in range(5)
        for clip, name in cut(clips, protocol, folds=5, fold=fold).items()
        if name == "test"
    )
    assert tested == Counter(clip.clip for clip in clips)


def test_the_split_of_a_seed_never_changes():
    """Recorded once: every platform and library version must give the same."""
    splits = cut(plain(24), "stratified")
    assert sorted(by_split(splits)["test"]) == GOLDEN_TEST
    assert sorted(by_split(splits)["validation"]) == GOLDEN_VALIDATION


def test_another_seed_gives_another_split():
    clips = plain(80)
    assert len({tuple(cut(clips, seed=seed).values()) for seed in range(5)}) == 5


def test_auto_is_grouped_if_any_group_is_known():
    assert resolve("auto", plain(8)) == "stratified"
    assert resolve("auto", plain(8, clips_per_group=2)) == "grouped"
    assert resolve("course", plain(8, clips_per_group=2)) == "course"


def test_auto_takes_the_corpus_s_own_split_unless_its_card_says_otherwise():
    parts = ("train", "test", "")
    clips = [clip._replace(part=parts[i // 4 % 3]) for i, clip in enumerate(plain(24))]
    folds = [clip._replace(part=str(i % 5)) for i, clip in enumerate(clips)]
    assert resolve("auto", clips) == "published"
    assert resolve("auto", [clip._replace(group="g") for clip in clips]) == "published"
    assert resolve("auto", clips, "grouped") == "grouped"
    assert resolve("course", clips, "grouped") == "course"
    assert resolve("auto", [clip._replace(part="train") for clip in clips]) == "stratified"
    assert resolve("auto", folds) == "stratified"


def test_the_course_split_is_that_of_datasets():
    from datasets import Dataset

    clips = [Clip(f"{LABELS[i // 250]}.{i:05d}", LABELS[i // 250]) for i in range(999)]
    random.Random(0).shuffle(clips)
    splits = cut(clips, "course", seed=7)  # the course's seed is 42, whatever ours is
    ordered = Dataset.from_dict({"clip": sorted(clip.clip for clip in clips)})
    theirs = ordered.train_test_split(seed=42, shuffle=True, test_size=0.1)
    assert by_split(splits)["test"] == set(theirs["test"]["clip"])
    assert by_split(splits)["train"] | by_split(splits)["validation"] == set(
        theirs["train"]["clip"]
    )
    assert len(by_split(splits)["test"]) == 100


def test_a_published_split_is_kept_and_clips_outside_it_are_left_out():
    clips = [clip._replace(part=SPLITS[i // 4 % 3]) for i, clip in enumerate(plain(48))]
    clips[5] = clips[5]._replace(part="")
    splits = cut(clips, "published")
    assert splits == {clip.clip: clip.part for clip in clips if clip.part}


def test_a_missing_validation_split_is_taken_from_training_by_group():
    clips = plain(96, clips_per_group=2)
    clips = [c._replace(part="test" if c.group.endswith("0") else "train") for c in clips]
    splits = cut(clips, "published")
    assert by_split(splits)["test"] == {clip.clip for clip in clips if clip.part == "test"}
    validation = by_split(splits)["validation"]
    groups = {clip.group for clip in clips if clip.clip in validation}
    assert validation and validation == {clip.clip for clip in clips if clip.group in groups}


def test_published_folds_are_numbered_by_name():
    clips = [clip._replace(part=str(1 + i // 4 % 12)) for i, clip in enumerate(plain(144))]
    for fold, name in ((0, "1"), (1, "2"), (11, "12")):
        splits = cut(clips, "published", fold=fold)
        assert by_split(splits)["test"] == {clip.clip for clip in clips if clip.part == name}
    with pytest.raises(PipelineError, match="0 to 11, not 12"):
        cut(clips, "published", fold=12)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["", ""], "comes without a split"),
        (["train", "validation"], "publishes no test split"),
        (["train", "3"], "mixes splits"),
        (["3", "3"], "publishes 1 fold"),
    ],
)
def test_a_published_split_that_cannot_be_used(parts, message):
    clips = [clip._replace(part=parts[i % 2]) for i, clip in enumerate(plain(24))]
    with pytest.raises(PipelineError, match=message):
        cut(clips, "published")


def test_one_label_is_refused():
    with pytest.raises(PipelineError, match="needs at least two"):
        cut(plain(24, labels=1))


def test_a_label_with_too_few_clips_is_named_with_what_to_do():
    clips = [*plain(40, labels=2), Clip("rock.a", "rock"), Clip("rock.b", "rock")]
    with pytest.raises(PipelineError, match=r"'rock'.*has 2 clip\(s\).*remove the label"):
        cut(clips)
    clips = [*plain(40, labels=2), *(Clip(f"rock.{i}", "rock") for i in range(5))]
    assert cut(clips, folds=10, fold=0)  # the folds that lack a label come last
    with pytest.raises(PipelineError, match=r"'rock'.*split\.folds to at most 5"):
        cut(clips, folds=10, fold=9)


def test_a_fingerprint_that_makes_the_split_impossible_is_named():
    clips = plain(40, labels=2, clips_per_group=2)
    blues = [clip.clip for clip in clips if clip.label == "blues"]
    same = [(blues[0], other) for other in blues[1:]]
    with pytest.raises(PipelineError, match=r"fingerprint takes 19 pair.*same_recordings=false"):
        cut(clips, "grouped", same=same)
    assert cut(clips, "grouped", same=same[:1])
    few = [clip for clip in clips if clip.label == "blues" or clip.group.endswith("-0")]
    with pytest.raises(PipelineError) as caught:
        cut(few, "grouped", same=same[:1])
    assert "fingerprint" not in str(caught.value)


def test_one_large_group_does_not_unbalance_the_rest():
    clips = [Clip(f"a.{i:03d}", "a", "large" if i < 35 else f"a{i}") for i in range(100)]
    clips += [Clip(f"b.{i:03d}", "b", f"b{i // 2}") for i in range(100)]
    for fold in range(5):
        splits = cut(clips, "grouped", folds=5, fold=fold, validation=0.1)
        counts = Counter((clip.label, splits[clip.clip]) for clip in clips)
        assert counts["b", "test"] == 20
        assert counts["a", "test"] in (35, 16, 17)
        assert 6 <= counts["a", "validation"] <= 9
        assert 7 <= counts["b", "validation"] <= 9


def test_the_tables_are_read_and_written(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text(
        "clip,path,label,seconds,sample_rate,channels,sha256,group,title,part\n"
        'b,data/raw/x/b.wav,x,1.000,16000,1,22,"Guns, N","T",1\n'
        "a,data/raw/y/a.wav,y,1.000,16000,1,11,,,\n",
        encoding="utf-8",
    )
    clips = read_clips(path)
    assert clips == [Clip("a", "y", sha256="11"), Clip("b", "x", "Guns, N", "T", "1", "22")]
    assert to_csv(clips, {"b": "test"}) == "clip,label,split\nb,x,test\n"
    with pytest.raises(PipelineError, match="dvc repro fetch_data"):
        read_clips(tmp_path / "absent.csv")
    path.write_text("clip,label\na,b\n", encoding="utf-8")
    with pytest.raises(PipelineError, match="no column 'group'"):
        read_clips(path)
