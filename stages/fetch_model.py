"""fetch_model: the backbone that model.id names; from here on nothing needs the Hub.

Writes models/backbone/: config.json, preprocessor_config.json, *.safetensors, source.json.
"""

from pathlib import Path

from genrepro import pretrained
from genrepro.params import load
from genrepro.runtime import measured, run, say, staged

BACKBONE = Path("models/backbone")


def main() -> None:
    params = load()
    with measured("fetch_model") as figures:
        with staged(BACKBONE) as folder:
            source = pretrained.take(params.model, folder)
        size = sum(file.stat().st_size for file in BACKBONE.glob("*.safetensors"))
        figures["weights_mb"] = round(size / 1e6, 1)
    weights = f"{size / 1e6:.1f} MB of weights" if size else "no weights: trained from scratch"
    say(f"{source['id']} at {source['revision'] or 'its folder'}: {weights}")


if __name__ == "__main__":
    run(main)
