"""The recipe of the Hugging Face audio course, unit 4, changed where it no longer runs.

From "Fine-tuning a model for music classification"
(https://huggingface.co/learn/audio-course/chapter4/fine-tuning). Changed:
- `load_dataset("marsyas/gtzan")` runs a script, which datasets 4 refuses: the clips come from disk;
- `Audio(sampling_rate=…)` needs torchcodec and FFmpeg: soundfile and soxr do the same from a column
  of paths, at the quality that datasets used then;
- `num_proc=1` meant this process then and means a separate one now: it is left out;
- `tokenizer=` is now `processing_class=`, and `evaluation_strategy` is `eval_strategy`.
"""

from __future__ import annotations

from pathlib import Path

import datasets
import soundfile
import soxr
from datasets import ClassLabel, Dataset, Features, Value
from torch.utils.data import DataLoader
from transformers import DataCollatorWithPadding, SequenceFeatureExtractor, TrainingArguments

MAX_DURATION = 30.0
BATCH_SIZE = 8

datasets.disable_progress_bars()


def corpus(paths: list[Path]) -> Dataset:
    """The clips as `load_dataset` would give them: columns audio and genre."""
    names = sorted({path.parent.name for path in paths})
    features = Features({"audio": Value("string"), "genre": ClassLabel(names=names)})
    columns = {
        "audio": [str(path) for path in paths],
        "genre": [path.parent.name for path in paths],
    }
    return Dataset.from_dict(columns, features=features)


def encode(paths: list[Path], feature_extractor: SequenceFeatureExtractor, cache: Path) -> Dataset:
    """`gtzan.map(preprocess_function, …)`, into the Arrow file `cache`."""

    def preprocess_function(examples):
        audio_arrays = [decode(x, feature_extractor.sampling_rate) for x in examples["audio"]]
        inputs = feature_extractor(
            audio_arrays,
            sampling_rate=feature_extractor.sampling_rate,
            max_length=int(feature_extractor.sampling_rate * MAX_DURATION),
            truncation=True,
            return_attention_mask=True,
        )
        return inputs

    encoded = corpus(paths).map(
        preprocess_function,
        remove_columns=["audio"],
        batched=True,
        batch_size=100,
        cache_file_name=str(cache.absolute()),
        load_from_cache_file=False,
    )
    return encoded.rename_column("genre", "label")


def decode(path: str, sampling_rate: int):
    """The samples of a sound file, float64 (samples,)."""
    array, rate = soundfile.read(path)  # float64, as Audio() decoded then
    return soxr.resample(array, rate, sampling_rate, quality="HQ")


def loader(encoded: Dataset, feature_extractor: SequenceFeatureExtractor) -> DataLoader:
    """Batches as Trainer makes them: Python lists, padded and converted to tensors."""
    return DataLoader(
        encoded,
        batch_size=BATCH_SIZE,
        shuffle=True,
        collate_fn=DataCollatorWithPadding(feature_extractor),
    )


def arguments(
    output: Path, batch_size: int = BATCH_SIZE, *, gpu: bool = False
) -> TrainingArguments:
    """The course's TrainingArguments, without fp16 on a CPU, which has none."""
    return TrainingArguments(
        str(output),
        eval_strategy="no",  # the course's "epoch": only steps are timed
        save_strategy="no",  # the course's "epoch"
        learning_rate=5e-5,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=1,
        per_device_eval_batch_size=batch_size,
        num_train_epochs=10,
        warmup_steps=0.1,
        logging_steps=5,
        fp16=gpu,
        use_cpu=not gpu,
        disable_tqdm=True,
    )
