"""Clips become segments, and segments features, for each kind of backbone."""

import itertools

import numpy as np
import pytest
from transformers import (
    ASTFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from genrepro.core.errors import PipelineError
from genrepro.core.params import Encode, load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from tests.support.samples import RATE, ROOT, tone


def encode(**changed) -> Encode:
    return load(ROOT / "params.yaml").encode.model_copy(update=changed)


@pytest.mark.parametrize("seconds", [0.3, 3.0, 12.0, 45.0])
@pytest.mark.parametrize("segment", [30.0, 5.0, 2.5])
@pytest.mark.parametrize("hop", [None, 1.0])
def test_segments_cover_the_clip_and_all_are_whole(seconds, segment, hop):
    recipe = encode(segment_seconds=segment, hop_seconds=hop, normalize=False)
    extractor = adapt(Wav2Vec2FeatureExtractor(), recipe, longest_seconds=45.0)
    ramp = np.arange(round(seconds * RATE), dtype=np.float32) / 1e6
    got = extract_segments(extractor, ramp)
    kept = min(len(ramp), 30 * RATE)
    assert {len(one) for one in got} == {min(kept, round(segment * RATE))}
    firsts = [round(float(one[0]) * 1e6) for one in got]
    assert firsts == sorted(firsts) and firsts[0] == 0
    assert float(got[-1][-1]) == pytest.approx(ramp[kept - 1], rel=1e-3)
    step = round((hop or segment) * RATE)
    rounding = 300  # of the ramp's last values in half precision, in samples
    assert all(after - before <= step + rounding for before, after in itertools.pairwise(firsts))


def test_waveforms_have_zero_mean_and_unit_variance_unless_told_otherwise():
    wave = tone(440, 2.0) + 0.5
    for normalize in (True, False):
        extractor = adapt(
            Wav2Vec2FeatureExtractor(do_normalize=not normalize), encode(normalize=normalize), 2.0
        )
        (one,) = extract_segments(extractor, wave)
        is_normal = abs(one.astype(float).mean()) < 1e-3 and abs(one.astype(float).std() - 1) < 1e-3
        assert is_normal == normalize


def test_half_precision_adds_noise_70_db_below_the_signal():
    wave = tone(440, 2.0)
    extractor = adapt(Wav2Vec2FeatureExtractor(), encode(), 2.0)
    exact = extractor(wave, sampling_rate=RATE)["input_values"][0]
    (half,) = extract_segments(extractor, wave)
    noise = np.linalg.norm(half - exact) / np.linalg.norm(exact)
    assert noise < 10 ** (-70 / 20)


def test_whisper_segments_are_as_long_as_the_longest_clip_not_30_s():
    extractor = adapt(WhisperFeatureExtractor(), encode(), longest_seconds=2.6)
    assert [one.shape for one in extract_segments(extractor, tone(440, 2.6))] == [(80, 300)]


def test_a_clip_longer_than_ast_s_input_becomes_several_segments():
    extractor = adapt(ASTFeatureExtractor(), encode(), longest_seconds=30.0)
    got = extract_segments(extractor, tone(440, 30.0))
    assert [one.shape for one in got] == [(1024, 128)] * 3


def test_ast_segments_of_a_short_clip_are_not_padded():
    extractor = adapt(ASTFeatureExtractor(num_mel_bins=32), encode(), longest_seconds=3.0)
    (one,) = extract_segments(extractor, tone(440, 3.0))
    assert one.shape == (298, 32)
    assert one[-1].std() > 0


@pytest.mark.parametrize("samples", [3_200, 3_360])  # 18 frames, and 19
def test_frames_that_pad_an_odd_number_for_w2v_bert_are_left_out(samples):
    extractor = adapt(SeamlessM4TFeatureExtractor(), encode(), longest_seconds=1.0)
    wave = tone(440, 1.0)[:samples]
    whole = extractor(wave, sampling_rate=RATE)
    (one,) = extract_segments(extractor, wave)
    assert len(one) == whole["attention_mask"].sum() == 9
    assert np.allclose(one, whole["input_features"][0][:9], rtol=1e-3, atol=1e-3)


def test_an_adapted_extractor_is_the_same_after_saving_and_loading(tmp_path):
    extractor = adapt(WhisperFeatureExtractor(), encode(segment_seconds=2.0), 9.0)
    extractor.save_pretrained(tmp_path)
    wave = tone(440, 9.0)
    for one, other in zip(
        extract_segments(extractor, wave), extract_segments(load_extractor(tmp_path), wave)
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("text", [None, "{", "{}", '{"feature_extractor_type": "Nonsense"}'])
def test_a_folder_without_a_usable_extractor_is_refused_in_one_sentence(tmp_path, text):
    if text is not None:
        (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(PipelineError, match=r"preprocessor_config\.json"):
        load_extractor(tmp_path)
