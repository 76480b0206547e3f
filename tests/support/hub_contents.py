"""What the loopback Hub holds: a small GTZAN, a keyword corpus, DistilHuBERT, and faulty ones."""

from __future__ import annotations

import functools
import io
import json
import tarfile

import numpy as np
import pyarrow
import soundfile
import yaml
from pyarrow import parquet
from safetensors.numpy import save as save_tensors

from tests.support.loopback_hub import FAILURES, LoopbackHub

RATE = 22_050
GTZAN = "d2146561ecc7df707d9e6b8318885fe6a39668a2"
DISTILHUBERT = "fa87d96265d6b7af66e112faff6ff44df419cec9"
WORDS = "5" * 40
CLOSED = "d" * 40

DISTILHUBERT_CONFIG = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "activation_dropout": 0.1,
    "apply_spec_augment": False,
    "attention_dropout": 0.1,
    "conv_bias": False,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "do_stable_layer_norm": False,
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "group",
    "feat_proj_dropout": 0.0,
    "feat_proj_layer_norm": False,
    "final_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "layerdrop": 0.0,
    "num_attention_heads": 12,
    "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128,
    "num_feat_extract_layers": 7,
    "num_hidden_layers": 2,
    "vocab_size": 32,
}
PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16000,
    "do_normalize": True,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
}


def sound(seed: int, seconds: float = 0.3, file_format: str = "WAV") -> bytes:
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE, format=file_format)
    return buffer.getvalue()


@functools.cache  # gzip writes the clock into its header
def gtzan_tarball() -> bytes:
    """The real one's layout, three clips a genre: `._*` beside each, jazz.00054 broken."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        for seed, genre in enumerate(("blues", "jazz", "rock")):
            folder = tarfile.TarInfo(f"genres/{genre}")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            for number in range(3):
                name = f"{genre}.{number:05d}.wav"
                add(f"genres/{genre}/._{name}", b"\0\5\x16\7" + bytes(166))
                add(f"genres/{genre}/{name}", sound(10 * seed + number))
        add("genres/jazz/jazz.00054.wav", bytes(30_000))
    return buffer.getvalue()


def words_parquet(split: str) -> bytes:
    """Rows of a keyword corpus, with a speaker each, as push_to_hub writes them."""
    rows = [
        {
            "audio": {"path": f"{word}/{split}-{n}.wav", "bytes": sound(n, file_format="FLAC")},
            "word": ["no", "yes"].index(word),
            "speaker": f"s{n % 3}",
        }
        for n, word in enumerate(["yes", "no"] * 4)
    ]
    rows[1]["audio"]["bytes"] = None
    features = {
        "audio": {"_type": "Audio"},
        "word": {"_type": "ClassLabel", "names": ["no", "yes"]},
        "speaker": {"_type": "Value", "dtype": "string"},
    }
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def distilhubert_weights() -> bytes:
    import torch
    from safetensors.torch import save
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**DISTILHUBERT_CONFIG)).half()
    return save(model.state_dict(), metadata={"format": "pt"})


def pickled_weights() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"x": torch.ones(3)}, buffer)
    return buffer.getvalue()


def model_files(weights: bytes) -> dict[str, bytes]:
    return {
        "config.json": json.dumps(DISTILHUBERT_CONFIG).encode(),
        "preprocessor_config.json": json.dumps(PREPROCESSOR).encode(),
        "model.safetensors": weights,
        "README.md": b"# a model",
        "modeling_own.py": b"raise SystemExit('code from a model was run')",
        "pytorch_model.bin": b"not asked for",
    }


def words_readme() -> bytes:
    train, test = ({"split": split, "path": f"small/{split}-*"} for split in ("train", "test"))
    small = {"config_name": "small", "data_files": [train, test]}
    other = {"config_name": "other", "data_files": "other/*.parquet"}
    return f"---\n{yaml.safe_dump({'configs': [small, other]})}---\n# words\n".encode()


def fill(hub: LoopbackHub) -> None:
    """Add the repositories, `fails/<how>` and `someone/<what is special>` among them."""
    weights = distilhubert_weights()
    tarball = {"data/genres.tar.gz": gtzan_tarball(), "gtzan.py": b"raise SystemExit('code')"}
    hub.add("models", "ntu-spml/distilhubert", model_files(weights), DISTILHUBERT)
    hub.add("datasets", "marsyas/gtzan", tarball, GTZAN)
    words = {
        "README.md": words_readme(),
        "small/train-00000-of-00001.parquet": words_parquet("train"),
        "small/test-00000-of-00001.parquet": words_parquet("test"),
        "other/0.parquet": b"not asked for",
        "torn/train-0.parquet": words_parquet("train")[:4000],
    }
    hub.add("datasets", "someone/words", words, WORDS)
    small = save_tensors({"x": np.random.default_rng(0).normal(size=(90, 90))})
    for how in FAILURES:
        files = model_files(weights if how == "cut-once" else small)
        hub.add("models", f"fails/{how}", files, "f" * 40)
    pickled = {k: v for k, v in model_files(small).items() if k != "model.safetensors"}
    hub.add("models", "someone/pickled", pickled, "a" * 40)
    torn = model_files(small) | {"model.safetensors": b"\xff" * 20_000}
    hub.add("models", "someone/torn", torn, "b" * 40)
    for name in ("private", "gated"):
        hub.add("models", f"someone/{name}", pickled, CLOSED)
        hub.add("datasets", f"someone/{name}", words, CLOSED)
    hub.add("models", "someone/xet", model_files(small), CLOSED)
    hub.xet.add("someone/xet")
    text = model_files(small) | {"preprocessor_config.json": b"{}"}
    hub.add("models", "someone/text", text, "c" * 40)
