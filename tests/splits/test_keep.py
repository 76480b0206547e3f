"""A corpus that grows: the clips of an earlier split stay where they were."""

from hypothesis import given
from hypothesis import strategies as st

from genrepro.splits import protocols
from genrepro.splits.clips import SPLITS, Clip, to_csv
from genrepro.splits.keep import keep, read_split

SETTINGS = {"folds": 5, "fold": 0, "validation": 0.2, "seed": 1}


def corpus(first: int, last: int) -> list[Clip]:
    """Clips of two labels, three to a group."""
    return [Clip(f"c{n:03d}", "ab"[n // 3 % 2], group=f"g{n // 3}") for n in range(first, last)]


@given(st.integers(60, 90), st.integers(0, 30), st.sampled_from(["grouped", "stratified"]))
def test_earlier_clips_stay_and_new_ones_join_their_group(size, more, protocol):
    earlier = protocols.split(corpus(0, size), protocol, **SETTINGS)
    clips = corpus(0, size + more)
    fresh = protocols.split(clips, protocol, **SETTINGS)
    kept = keep(protocols.units_of(clips, protocol, ()), fresh, earlier)
    assert {clip: kept[clip] for clip in earlier} == earlier
    assert set(kept) == {clip.clip for clip in clips} and set(kept.values()) == set(SPLITS)
    if protocol == "grouped":
        for clip in clips:
            assert kept[clip.clip] == kept[f"c{int(clip.clip[1:]) // 3 * 3:03d}"]


def test_removed_clips_are_forgotten_and_what_a_published_split_leaves_out_stays_out():
    clips = corpus(0, 4)
    fresh = {"c000": "train", "c001": "test", "c003": "train"}
    kept = keep([(clip,) for clip in clips], fresh, {"c001": "train", "gone": "test"})
    assert kept == {"c000": "train", "c001": "train", "c003": "train"}


def test_a_new_clip_of_groups_in_several_splits_is_trained_on():
    clips = corpus(0, 3)
    fresh = dict.fromkeys(["c000", "c001", "c002"], "test")
    kept = keep([tuple(clips)], fresh, {"c000": "test", "c001": "train"})
    assert kept == {"c000": "test", "c001": "train", "c002": "train"}


def test_a_split_is_read_as_it_was_written(tmp_path):
    clips, splits = corpus(0, 2), {"c000": "train", "c001": "test"}
    (tmp_path / "split.csv").write_text(to_csv(clips, splits))
    assert read_split(tmp_path / "split.csv") == splits
    assert read_split(tmp_path / "none.csv") == {}
