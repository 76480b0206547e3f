"""From raw files to a tested model: transformers' run_audio_classification.py, and this pipeline.

Both train the same backbone on the same clips for as many epochs with the recipe of params.yaml,
choose the best epoch on the validation clips and classify the test clips. The example script
computes each clip's features whenever it is read; its steps are followed here, with soundfile and
soxr in place of torchcodec. The pipeline runs six stages, each in a process of its own; it also
inspects the corpus, divides it and computes intervals.

python -m benchmarks.whole
python -m benchmarks.whole --corpus FOLDER --model openai/whisper-tiny.en --epochs 2
"""

from __future__ import annotations

import csv
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    EvalPrediction,
    HubertModel,
    Trainer,
    TrainingArguments,
)

from benchmarks import course, setup
from benchmarks.table import record, rounds, row
from genrepro.core import paths
from genrepro.core.files import remove
from genrepro.core.params import load

SCRIPT = "run_audio_classification.py"
TINY = "backbones/tiny"


def main() -> None:
    parser = setup.options(__doc__, clips=120, seconds=2.0)
    parser.add_argument("--corpus", type=Path, help="a folder <label>/<clip>.wav, for real clips")
    parser.add_argument("--model", help="a Hub id or a folder; default: a tiny HuBERT")
    parser.add_argument("--epochs", type=int, default=2, help="default: %(default)s")
    args = parser.parse_args()
    setup.set_threads(args)
    corpus = args.corpus and args.corpus.absolute()
    model = args.model and (
        str(Path(args.model).absolute()) if Path(args.model).is_dir() else args.model
    )
    with setup.workplace(args.clips, args.seconds, distinct=args.clips):
        paths.RAW.rename("corpus")
        shutil.copytree(setup.REPOSITORY / "backbones", "backbones")  # with the pinned revisions
        paths.BACKBONE.rename(TINY)
        HubertModel(setup.shape(narrow=True)).save_pretrained(TINY)
        setup.set_params(
            data={"corpus": str(corpus or "corpus")},
            model={"id": model or TINY},
            train={"epochs": args.epochs, "device": "cpu"},
        )
        _run_stages("fetch_data", "fetch_model", "prepare")  # what the script starts from
        script = functools.partial(setup.timed_alone, _script, args.threads)
        pipeline = functools.partial(setup.timed_alone, _pipeline, args.threads)
        figures = rounds({SCRIPT: script, "here": pipeline}, args.rounds)
    clips = f"{figures[SCRIPT][0]['clips']:.0f} clips"
    what = f"from {clips} to a tested model, {args.epochs} epochs, {args.threads} threads"
    rows = [
        row(what, "s", figures, "process", SCRIPT, "here"),
        row(f"{what}: memory", "MB", figures, "memory", SCRIPT, "here"),
    ]
    setting = {"model": Path(model or "tiny HuBERT").name, "threads": args.threads}
    setting |= {name: [each["accuracy"] for each in found] for name, found in figures.items()}
    record("whole", args.results, setting, rows)


def _pipeline(threads: int) -> dict[str, float]:
    """The stages, each in a process of its own, as DVC starts them."""
    for folder in (Path("data"), Path("models"), paths.METRICS, paths.UNFINISHED):
        remove(folder)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _run_stages("fetch_data", "fetch_model", "prepare", "encode", "train", "evaluate")
    test = json.loads(paths.TEST.read_text(encoding="utf-8"))
    memory = setup.peak_memory(resource.RUSAGE_CHILDREN)
    return {"accuracy": test["accuracy"], "clips": _clips(), "memory": memory}


def _run_stages(*names: str) -> None:
    for name in names:
        command = [sys.executable, "-m", "stages", name]
        environment = os.environ | setup.importable()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _clips() -> int:
    return len(paths.SPLIT.read_text(encoding="utf-8").splitlines()) - 1


def _script(threads: int) -> dict[str, float]:
    """The steps of run_audio_classification.py on the clips and splits of the current folder."""
    torch.set_num_threads(threads)
    params = load()
    extractor = AutoFeatureExtractor.from_pretrained(paths.BACKBONE, return_attention_mask=True)
    splits, labels = _datasets(extractor)
    model = AutoModelForAudioClassification.from_pretrained(
        paths.BACKBONE,
        dtype=torch.float32,  # a checkpoint in half precision would train in it
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "script",
            num_train_epochs=params.train.epochs,
            learning_rate=params.train.learning_rate,
            warmup_steps=params.train.warmup,
            per_device_train_batch_size=params.train.batch_size,
            per_device_eval_batch_size=params.train.batch_size,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            remove_unused_columns=False,
            seed=params.seed,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        compute_metrics=_accuracy,
        processing_class=extractor,
    )
    trainer.train()
    trainer.save_model()
    accuracy = trainer.evaluate(splits["test"])["eval_accuracy"]
    return {"accuracy": accuracy, "clips": _clips(), "memory": setup.peak_memory()}


def _datasets(extractor) -> tuple[dict[str, Dataset], list[str]]:
    """Each split's clips, whose features are computed whenever one is read, and the labels."""
    with paths.CLIPS.open(encoding="utf-8", newline="") as file:
        files = {clip["clip"]: clip["path"] for clip in csv.DictReader(file)}
    with paths.SPLIT.open(encoding="utf-8", newline="") as file:
        clips = list(csv.DictReader(file))
    labels = sorted({clip["label"] for clip in clips})
    name = extractor.model_input_names[0]

    def features(batch: dict[str, list]) -> dict[str, object]:
        waves = [course.decode(path, extractor.sampling_rate) for path in batch["path"]]
        inputs = extractor(waves, sampling_rate=extractor.sampling_rate)
        return {name: inputs[name], "labels": batch["label"]}

    splits = {}
    for split in ("train", "validation", "test"):
        mine = [clip for clip in clips if clip["split"] == split]
        columns = {
            "path": [files[clip["clip"]] for clip in mine],
            "label": [labels.index(clip["label"]) for clip in mine],
        }
        splits[split] = Dataset.from_dict(columns).with_transform(features)
    return splits, labels


def _accuracy(predicted: EvalPrediction) -> dict[str, float]:
    hits = np.argmax(predicted.predictions, axis=1) == predicted.label_ids
    return {"accuracy": float(np.mean(hits))}


if __name__ == "__main__":
    main()
