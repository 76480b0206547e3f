"""fetch_model: copy the backbone that model.id names, so that no later stage needs the Hub.

Writes models/backbone/: config.json, preprocessor_config.json, *.safetensors, source.json.
"""

from __future__ import annotations

from pathlib import Path

from genrepro import pretrained
from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.params import Params
from genrepro.core.paths import BACKBONE, SOURCE
from genrepro.core.stage import log, record_speed


def main(params: Params) -> None:
    with record_speed("fetch_model") as figures:
        if BACKBONE.is_dir() and any(BACKBONE.iterdir()) and not SOURCE.exists():
            raise PipelineError(
                f"{BACKBONE} would be replaced, and this stage did not write what it holds: move "
                "your model to backbones/, and set model.id to its folder there."
            )
        with atomic_output(BACKBONE) as folder:
            source = pretrained.take(params.model, folder)
        size = sum(file.stat().st_size for file in BACKBONE.glob("*.safetensors"))
        figures["weights_mb"] = round(size / 1e6, 1)
    weights = f"{size / 1e6:.1f} MB of weights" if size else "no weights: trained from scratch"
    log(f"{source['id']} at {source['revision'] or 'its folder'}: {weights}")
    watched = pretrained.folder_of(params.model).resolve().is_relative_to(Path.cwd())
    if not source["revision"] and not watched:
        log(
            f"DVC does not watch {params.model.id}: after a change there, type "
            "`dvc repro --force fetch_model`, or keep a copy in backbones/."
        )
