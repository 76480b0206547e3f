"""Every kind of backbone, from model.id to the exported pipeline, with clips of 0.1 to 2 s.

Each is saved by transformers with its class's default configuration made small, which keeps what a
Hub checkpoint brings along: SpecAugment, layer drop, normalisation, the shapes of convolutions.
"""

import csv

import pytest
import soundfile
import torch
import transformers
from transformers import pipeline

from genrepro.core.params import Params, load
from stages import encode, evaluate, export, fetch_data, fetch_model, prepare, train
from tests.support.samples import RATE, ROOT, tone

pytestmark = pytest.mark.slow

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 16}
WAVES = SMALL | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 64, "vocab_size": 32}
WAVES |= {"num_conv_pos_embedding_groups": 2}
SEW = {"conv_dim": (8,) * 13, "squeeze_factor": 2}
DATA2VEC = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 19}
WHISPER = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 16}
WHISPER |= {"decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
WHISPER |= {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
WHISPER |= {"decoder_start_token_id": 0}
BERT = SMALL | {"output_hidden_size": 16, "conv_depthwise_kernel_size": 5}
MULTI_LABEL = {"problem_type": "multi_label_classification", "num_labels": 5}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

# For each: the class that saves it, what makes its configuration small, its feature extractor.
BACKBONES = {
    "hubert": ("HubertModel", WAVES, "Wav2Vec2"),
    "wav2vec2-base": ("Wav2Vec2Model", WAVES, "Wav2Vec2"),
    "wav2vec2-layer-norm": ("Wav2Vec2Model", WAVES | LAYER_NORM, "Wav2Vec2"),
    "wavlm": ("WavLMModel", WAVES, "Wav2Vec2"),
    "superb": (
        "HubertForSequenceClassification",
        WAVES | {"use_weighted_layer_sum": True, "num_labels": 4},
        "Wav2Vec2",
    ),
    "ast-multi-label": (
        "ASTForAudioClassification",
        SMALL | {"num_mel_bins": 32} | MULTI_LABEL,
        "AST",
    ),
    "w2v-bert": ("Wav2Vec2BertModel", BERT, "SeamlessM4T"),
    "sew": ("SEWModel", WAVES | SEW, "Wav2Vec2"),
    "data2vec": ("Data2VecAudioModel", WAVES | DATA2VEC, "Wav2Vec2"),
    "unispeech-sat": ("UniSpeechSatModel", WAVES, "Wav2Vec2"),
    "wav2vec2-conformer": ("Wav2Vec2ConformerModel", WAVES, "Wav2Vec2"),
    "whisper": ("WhisperModel", WHISPER, "Whisper"),
    "ctc": ("Wav2Vec2ForCTC", WAVES, "Wav2Vec2"),
}
NO_CONVOLUTIONS = ("ast-multi-label", "w2v-bert")
SECONDS = (0.1, 0.15, 0.21, 0.25, 0.6, 2.0)


def saved(name: str, folder) -> None:
    kind, small, extractor = BACKBONES[name]
    torch.manual_seed(0)
    model_class = getattr(transformers, kind)
    model_class(model_class.config_class(**small)).save_pretrained(folder)
    given = {}
    if extractor == "AST":
        given["num_mel_bins"] = 32
    if name == "wav2vec2-layer-norm":
        given["return_attention_mask"] = True
    getattr(transformers, f"{extractor}FeatureExtractor")(**given).save_pretrained(folder)


def recipe(base: Params, section: str, **changed) -> Params:
    return base.model_copy(update={section: getattr(base, section).model_copy(update=changed)})


@pytest.fixture(scope="module")
def split_corpus(tmp_path_factory):
    """A folder after fetch_data and prepare, and its parameters."""
    home = tmp_path_factory.mktemp("home")
    for label, frequency in (("low", 220.0), ("high", 3520.0)):
        (home / "corpus" / label).mkdir(parents=True)
        for number, seconds in enumerate(SECONDS):
            wave = tone(frequency * (1 + number / 5), seconds, seed=number)
            soundfile.write(home / "corpus" / label / f"{label}{number}.wav", wave, RATE)
    for name in ("dvc.yaml", "genrepro", "stages"):  # what the keys of unfinished work depend on
        (home / name).symlink_to(ROOT / name)
    params = load(ROOT / "params.yaml")
    params = recipe(params, "data", corpus="corpus")
    params = recipe(params, "split", folds=3, validation=0.3, protocol="stratified")
    params = recipe(params, "train", epochs=1, batch_size=2, effective_batch_size=2)
    params = recipe(params, "export", int8=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("GENREPRO_WORKERS", "1")
        fetch_data.main(params)
        prepare.main(params)
    return home, params


@pytest.fixture(scope="module", params=BACKBONES)
def encoded(request, split_corpus, tmp_path_factory):
    """The same after fetch_model and encode."""
    home, params = split_corpus
    folder = tmp_path_factory.mktemp(request.param)
    saved(request.param, folder)
    params = recipe(params, "model", id=str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("GENREPRO_WORKERS", "1")
        fetch_model.main(params)
        encode.main(params)
    return request.param, home, params


@pytest.mark.parametrize("what", ["nothing", "convolutions", "backbone", "probe"])
def test_it_trains_and_its_export_predicts_what_evaluate_recorded(encoded, what, monkeypatch):
    name, home, params = encoded
    if what == "convolutions" and name in NO_CONVOLUTIONS:
        pytest.skip("there is no convolutional encoder")
    monkeypatch.chdir(home)
    freeze = {"freeze": "backbone", "probe": True} if what == "probe" else {"freeze": what}
    alone = {"batch_size": 1} if what == "nothing" else {}  # not padded by a longer clip
    params = recipe(params, "train", **freeze, **alone)
    params = recipe(params, "export", onnx=what == "nothing")  # freezing does not change the graph
    for stage in (train, evaluate, export):
        stage.main(params)
    classify = pipeline("audio-classification", model="export", top_k=None)
    with (home / "data/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 4
    for row in rows:
        wave, _ = soundfile.read(row["path"], dtype="float32")
        for given in classify(wave):
            recorded = float(row[f"p_{given['label']}"])
            assert given["score"] == pytest.approx(recorded, abs=2e-3)
