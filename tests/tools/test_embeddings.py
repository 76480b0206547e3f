"""Embeddings of all clips, their map, and how unlike them another sound is."""

import contextlib
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from genrepro.core import paths
from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.store import write_index, write_shard
from genrepro.model import backbone
from tests.support.samples import ROOT, tiny_backbone, tone
from tools import embeddings, unlike

PARAMS = load(ROOT / "params.yaml")
LABELS = ["high", "low"]
CLIPS = 40


def built(kind, folder):
    """A classifier with random weights, and an extractor that cuts segments of 0.5 s."""
    source = tiny_backbone(kind, folder / kind)
    encode = PARAMS.encode.model_copy(update={"segment_seconds": 0.5})
    extractor = adapt(load_extractor(source), encode, longest_seconds=1.0)
    model, _ = backbone.build(source, LABELS, extractor, PARAMS.train, seed=0)
    return model, extractor


@pytest.mark.parametrize("kind", ["hubert", "ast", "whisper"])
def test_an_embedding_is_the_mean_of_the_last_layer(kind, tmp_path):
    model, extractor = built(kind, tmp_path)
    segments = [
        segment
        for seconds in (0.3, 0.5, 0.4)
        for segment in extract_segments(extractor, tone(500 * seconds, seconds))
    ]
    logits, profiles = embeddings.run_segments(model, segments, 2)
    body = next(
        child for name, child in model.named_children() if not name.startswith(backbone.HEAD)
    )
    width = profiles.shape[2] // 2
    with torch.inference_mode():
        for segment, profile, found in zip(segments, profiles, logits):
            inputs = {model.main_input_name: torch.from_numpy(segment).float()[None]}
            last = body.eval()(**inputs).last_hidden_state[0]
            assert profile[-1, :width] == pytest.approx(last.mean(dim=0).numpy(), abs=1e-4)
            assert profile[-1, width:] == pytest.approx(last.std(0, correction=0).numpy(), abs=1e-4)
            assert found == pytest.approx(model(**inputs).logits[0].numpy(), abs=1e-4)
    assert profiles.shape[:2] == (3, 3) and not model.config.output_hidden_states


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The outputs of train, for 40 tones of one or two segments, and those of tools.embeddings."""
    folder = tmp_path_factory.mktemp("trained")
    model, extractor = built("hubert", folder)
    for target in (folder / paths.EXPORT, folder / paths.ENCODED):
        target.mkdir(parents=True)
        extractor.save_pretrained(target)
    model.save_pretrained(folder / paths.EXPORT)
    clips = [f"{LABELS[n % 2]}.{n:02d}" for n in range(CLIPS)]
    rows = []
    for number, clip in enumerate(clips):
        wave = tone(3000 / (1 + number % 2) + number, 0.5 + 0.5 * (number % 3 == 0), seed=number)
        rows += [(clip, at, one) for at, one in enumerate(extract_segments(extractor, wave))]
    shard = folder / paths.ENCODED / "data-00000-of-00001.arrow"
    write_shard(shard, rows, "input_values", 1)
    write_index(folder / paths.ENCODED, [shard])
    split = ["test" if n >= 36 else "validation" if n >= 28 else "train" for n in range(CLIPS)]
    facts = {"clip": clips, "label": [clip.split(".")[0] for clip in clips]}
    more = {"path": "a.wav", "seconds": 1.0, "sha256": "", "group": "", "title": ""}
    pd.DataFrame(facts | more).to_csv(folder / paths.CLIPS, index=False)
    used = pd.DataFrame(facts | {"split": split})
    used.iloc[:-1].to_csv(folder / paths.SPLIT, index=False)  # the last clip is in no split
    shutil.copy(ROOT / "params.yaml", folder)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["embeddings"])
        embeddings.main()
    return folder


@pytest.fixture
def written(trained, tmp_path, monkeypatch):
    """A copy of `trained`, to work in and to change."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["embeddings"])
    return tmp_path


def test_the_file_has_one_row_per_clip_and_the_same_bytes_each_time(written):
    table = pq.read_table(paths.EMBEDDINGS)
    assert table.column_names == ["clip", "label", "split", "predicted", "embedding", "x", "y"]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[32]"
    frame, how = unlike.read()
    assert frame["split"].value_counts().to_dict() == {
        "train": 28, "validation": 8, "test": 3, "": 1,
    }  # fmt: skip
    assert set(frame["predicted"]) <= set(LABELS) and frame["label"][0] == "high"
    assert frame[["x", "y"]].min().tolist() == [0, 0] and frame[["x", "y"]].max().tolist() == [1, 1]
    assert how.startswith("t-SNE") and "was computed for" not in how
    first = paths.EMBEDDINGS.read_bytes(), paths.REFERENCE.read_bytes()
    embeddings.main()
    assert first == (paths.EMBEDDINGS.read_bytes(), paths.REFERENCE.read_bytes())


def test_embeddings_of_another_model_or_of_other_clips_are_refused(written):
    weights = paths.EXPORT / unlike.WEIGHTS
    assert unlike.of_model(paths.EXPORT)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        PipelineError, match=r"of another model.*`python -m tools.embeddings` again"
    ):
        unlike.read()
    assert unlike.of_model(paths.EXPORT) is None
    weights.write_bytes(content)
    unlike.read()
    paths.SPLIT.write_text(paths.SPLIT.read_text().replace("validation", "test"))
    with pytest.raises(PipelineError, match="or of other clips"):
        unlike.read()
    paths.EMBEDDINGS.unlink()
    with pytest.raises(PipelineError, match=r"exist yet: type `python -m tools.embeddings`"):
        unlike.read()


def test_without_a_model_the_command_to_type_is_named(in_tmp, monkeypatch):
    shutil.copy(ROOT / "params.yaml", in_tmp)
    monkeypatch.setattr("sys.argv", ["embeddings"])
    with pytest.raises(PipelineError, match="does not exist yet: type `dvc repro`"):
        embeddings.main()


def test_of_very_many_clips_some_are_placed_between_others(monkeypatch):
    monkeypatch.setattr(embeddings, "TSNE_CLIPS", 60)
    rng = np.random.default_rng(0)
    groups = np.arange(100) % 2
    vectors = rng.normal(0, 0.1, (100, 8)) + 5 * groups[:, None]
    places, how = embeddings.arrange(vectors)
    assert "computed for 60 of 100 clips" in how and np.isfinite(places).all()
    middles = np.stack([places[groups == group].mean(axis=0) for group in (0, 1)])
    near = np.linalg.norm(places[:, None] - middles, axis=2).argmin(axis=1)
    assert (near == groups).mean() > 0.95


@pytest.fixture(scope="module")
def reference():
    """Training clips in two groups; their third channel says nothing, and never changes."""
    rng = np.random.default_rng(0)

    def clips(count):
        values = rng.normal(size=(count, 2, 3)) + 8 * (np.arange(count) % 2)[:, None, None]
        values[..., 2] = 1
        return values

    return unlike.Reference.fit({"model": "a"}, clips(200), clips(100), np.arange(100) // 2), clips


def test_a_tenth_of_the_validation_clips_is_unlike(reference):
    clips = reference[1]
    validation = clips(80)
    found = unlike.Reference.fit({}, clips(200), validation, np.arange(80) // 2)
    flagged = [found.unlikeness(both).unlike for both in validation.reshape(40, 2, 2, 3)]
    assert sum(flagged) == 4


def test_what_is_near_no_training_clip_or_far_in_one_layer_is_unlike(reference):
    found, clips = reference
    between = np.full((1, 2, 3), [4.0, 4.0, 1.0])  # near the middle of all clips, but near none
    assert found.unlikeness(between).unlike
    one_layer = clips(2)[:1].copy()
    one_layer[0, 1, 0] = 30  # the other layer is as usual
    assert found.unlikeness(one_layer).described() == {
        "distance": pytest.approx(found.distances(one_layer)[0], abs=1e-4), "unlike": True,
    }  # fmt: skip


def test_a_reference_is_stored_whole(reference, tmp_path):
    found, clips = reference
    found.save(tmp_path / "a.npz")
    again = unlike.Reference.load(tmp_path / "a.npz")
    some = clips(20)
    assert again.made_of == {"model": "a"}
    assert again.distances(some).tolist() == found.distances(some).tolist()
