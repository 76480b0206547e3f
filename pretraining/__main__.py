"""Pretrain backbones/mini-distilhubert: dvc repro backbones/mini-distilhubert/dvc.yaml."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from transformers import HubertConfig, HubertModel

from genrepro.core.files import atomic_output, sha256, write_json
from genrepro.core.stage import log, run
from genrepro.model.allocator import keep_freed_memory
from genrepro.model.device import make_deterministic
from pretraining import masked, music, probe, targets

FOLDER = Path("backbones/mini-distilhubert")
WEIGHTS = FOLDER / "model.safetensors"
RECORD = Path("metrics/pretraining.json")  # what DVC tracks: it has the hash of the weights
THREADS = 2  # with another number the weights differ slightly


def main() -> None:
    params = yaml.safe_load((FOLDER / "params.yaml").read_text(encoding="utf-8"))
    torch.set_num_threads(THREADS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    make_deterministic()
    keep_freed_memory()
    waves = music.unlabelled(params["music"])
    rate = params["music"]["sample_rate"]
    wanted = targets.clusters(waves, rate, params["clusters"], params["seed"])
    card = {name: value for name, value in params["probe"].items() if name != "every"}
    probed = music.labelled(params["music"] | card)
    rows: list[dict[str, object]] = []

    def report(step: int, loss: float, backbone: HubertModel) -> None:
        accuracy = probe.accuracy(backbone, *probed)
        known = None if math.isnan(loss) else round(loss, 4)
        rows.append({"step": step, "loss": known, "probe_accuracy": round(accuracy, 4)})
        log(f"step {step:5}  loss {loss:.3f}  accuracy of a linear probe {accuracy:.3f}")

    config = HubertConfig.from_pretrained(FOLDER, local_files_only=True)
    backbone = masked.pretrain(config, waves, wanted, params, device, report)
    weights = {name: weight.half().contiguous() for name, weight in backbone.state_dict().items()}
    with atomic_output(WEIGHTS) as draft:
        save_file(weights, draft, metadata={"format": "pt"})
    write_json(RECORD, {"weights": sha256(WEIGHTS), "steps": rows})


if __name__ == "__main__":
    run(main)
