"""Where everything is, relative to the repository's root: one name for each artefact."""

from __future__ import annotations

from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")

# fetch_data
RAW = Path("data/raw")
CLIPS = Path("data/clips.csv")
FINGERPRINTS = Path("data/fingerprints.parquet")
DATA = Path("metrics/data.json")
# fetch_model
BACKBONE = Path("models/backbone")
SOURCE = BACKBONE / "source.json"
# prepare
SPLIT = Path("data/split.csv")
AUDIT = Path("metrics/split.json")
# encode
ENCODED = Path("data/encoded")
# train
FINETUNED = Path("models/finetuned")
TRAINING = Path("metrics/train")  # DVCLive's folder
LIVE_CURVES = TRAINING / "plots/metrics"
CURVES = TRAINING / "curves.csv"
VALIDATION = Path("metrics/validation.json")
# evaluate
PREDICTIONS = Path("data/predictions.csv")
TEST = Path("metrics/test.json")
LABELS = Path("metrics/labels.json")
PLOTS = Path("metrics/plots")
ACCURACY = PLOTS / "accuracy.csv"
RELIABILITY = PLOTS / "reliability.csv"
# export
EXPORT = Path("export")
PARITY = Path("metrics/export.json")

REPLACED = (RAW, ENCODED, BACKBONE, FINETUNED, EXPORT)  # folders that stages replace
EMBEDDINGS = Path("data/embeddings.parquet")  # made by tools.embeddings, not by a stage
REFERENCE = Path("data/reference.npz")  # made with it
METRICS = Path("metrics")
ROBUSTNESS = Path("metrics/robustness.json")  # what tools.robustness measured; not an output
SPEED = Path("metrics/speed")  # seconds and megabytes, on which nothing depends
LOGS = Path("logs")  # what TensorBoard and the like write; not in Git, and not an output
UNFINISHED = Path(".resume")  # unfinished work and locks; not in Git, and not an output
