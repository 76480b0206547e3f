"""Write a web page that classifies sounds in the browser, on the visitor's own machine.

It is a folder for any web server that serves files. The exported model runs in the page, with
onnxruntime-web, which is downloaded once from npm and kept in ~/.cache/genrepro. The page itself
needs no network, and lets no sound leave the browser. To look at it here:

    python -m tools.page
    python -m http.server --bind 127.0.0.1 --directory page
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import httpx2
import numpy as np
from huggingface_hub import ModelCard, ModelCardData, SpaceCardData

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.files import atomic_output
from genrepro.core.paths import EXPORT
from genrepro.core.stage import log, run
from genrepro.export import program
from tools import results
from tools.classifier import read_labels

PAGE = Path("page")
SOURCES = Path(__file__).with_name("browser")
MODEL = "model.onnx"
SETTINGS = "settings.json"
MEL = "mel_filters.bin"  # float64, little-endian, (frequencies, bands)
RUNTIME = "onnxruntime"  # folder in the page
VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
PACKAGE = {  # file in the package -> name in the page, and its SHA-256
    "dist/ort.wasm.bundle.min.mjs": (
        "ort.js",  # some servers do not know that .mjs is a script
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "dist/ort-wasm-simd-threaded.wasm": (
        "ort.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}


def main() -> None:
    args = _arguments()
    check_replaceable(args.folder)
    files = collect(runtime(args.onnxruntime))
    write(args.folder, files)
    size = sum(map(len, files.values())) / 1e6
    log(f"{args.folder}/: a page of {size:.1f} MB; look at it on http://127.0.0.1:8000 with")
    log(f"python -m http.server --bind 127.0.0.1 --directory {args.folder}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=PAGE, help=f"what to write; default: {PAGE}"
    )
    parser.add_argument(
        "--onnxruntime",
        type=Path,
        metavar="TGZ",
        help=f"the package, from `npm pack onnxruntime-web@{VERSION}`, instead of downloading it",
    )
    return parser.parse_args()


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, name -> content, into a folder that replaces what was there."""
    with atomic_output(folder) as draft:
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)


def check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that is not such a page."""
    if folder.exists() and not (folder / SETTINGS).exists() and any(folder.iterdir()):
        raise PipelineError(f"{folder}/ holds something else than a page: name another folder.")


def collect(runtime_files: dict[str, bytes], repo: str | None = None) -> dict[str, bytes]:
    """All files of the page: name in its folder -> content.

    Args:
        runtime_files: as `runtime` returns them.
        repo: the model's id on the Hub, which the page then links to.

    Raises:
        PipelineError: the export stage wrote no model that the page can run.
    """
    graph = EXPORT / "onnx/model.onnx"
    labels = read_labels(EXPORT)
    if not graph.exists():
        raise PipelineError(f"{graph} does not exist: type `dvc exp run -S export.onnx=true`.")
    audio = json.loads((EXPORT / "preprocessor_config.json").read_text(encoding="utf-8"))
    if not program.supports(audio["feature_extractor_type"]):
        raise PipelineError(
            f"the page cannot compute the features of {audio['feature_extractor_type']}, only "
            f"those of {', '.join(program.KINDS)}: use `python -m tools.serve` instead."
        )
    files = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.is_file()}
    mel = EXPORT / "onnx/mel_filters.npy"
    if mel.exists():
        files[MEL] = np.ascontiguousarray(np.load(mel), "<f8").tobytes()
    settings = {
        "title": card().model_name,
        "about": _about(labels),
        "origin": _origin(repo),
        "labels": labels,
        "audio": audio,
        "mel_filters": MEL if mel.exists() else None,
    }
    files[SETTINGS] = (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()
    return files | {MODEL: graph.read_bytes()} | runtime_files


def card() -> ModelCardData:
    """The metadata of the exported model's card."""
    return ModelCard.load(EXPORT / "README.md").data


def _about(labels: list[str]) -> str:
    corpus, measured = results.corpus()["corpus"], results.accuracy()
    return (
        f"Tells {len(labels)} labels apart: {', '.join(labels)}. Trained on "
        f"“{corpus['title'] or corpus['name']}”; of {measured['clips']:.0f} test clips it got "
        f"{measured['accuracy']:.0%} right, with a {measured['confidence']:.0%} interval of "
        f"{measured['low']:.0%} to {measured['high']:.0%}. It gives "
        "one of its labels to any sound, whatever it is."
    )


def _origin(repo: str | None) -> list[dict[str, str]]:
    """What the foot of the page says, piece by piece, with addresses."""
    model = [{"text": f"Model and card: {repo}.", "link": f"https://huggingface.co/{repo}"}]
    runtime_text = f"The model runs in onnxruntime-web {VERSION} (MIT licence)."
    return [*(model if repo else []), {"text": "Made with genrepro."}, {"text": runtime_text}]


def readme(repo: str, source: tuple[str, str] | None) -> str:
    """The README of a static Space with the page; its front matter configures the Space.

    Source of the keys: https://huggingface.co/docs/hub/spaces-config-reference

    Args:
        repo: the model's id on the Hub.
        source: the web page of this repository and the commit, if it is to be found there.
    """
    model = card()
    data = SpaceCardData(
        title=model.model_name,
        emoji="👂",
        colorFrom="green",
        colorTo="gray",
        sdk="static",
        app_file="index.html",
        license=model.license,
        models=[repo],
        datasets=[model.datasets] if isinstance(model.datasets, str) else model.datasets,
        tags=["audio-classification", "genrepro"],
        short_description="Classifies a sound in your browser",
    )
    made = f"[genrepro]({source[0]}) at `{source[1]}`" if source else "genrepro"
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {model.model_name}\n\n"
        "A page that classifies a sound in your browser: no sound leaves your machine. The model, "
        f"what it was trained on and how well it does: [{repo}](https://huggingface.co/{repo}).\n\n"
        f"Made with {made}. The model runs in onnxruntime-web {VERSION} (MIT licence).\n"
    )


def runtime(package: Path | None) -> dict[str, bytes]:
    """onnxruntime-web's files: from a package, from the cache, or downloaded into the cache.

    Returns:
        Name in the page's folder -> content, with the bytes that this project was tried with.

    Raises:
        PipelineError: the package cannot be had, or is not of VERSION.
    """
    kept = cache()
    if package is None and all(_is_right(kept / name, sha) for name, sha in PACKAGE.values()):
        return {f"{RUNTIME}/{name}": (kept / name).read_bytes() for name, _ in PACKAGE.values()}
    content = _download() if package is None else package.read_bytes()
    files = _unpacked(content, package or ADDRESS)
    write(kept, files)
    return {f"{RUNTIME}/{name}": data for name, data in files.items()}


def cache() -> Path:
    """Where onnxruntime-web's files are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / f"genrepro/onnxruntime-web-{VERSION}"


def _is_right(path: Path, sha256: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _download() -> bytes:
    log(f"downloading {ADDRESS}")
    try:
        return httpx2.get(ADDRESS, follow_redirects=True, timeout=60).raise_for_status().content
    except httpx2.HTTPError as error:
        raise PipelineError(
            f"{ADDRESS} cannot be downloaded ({one_line(error) or type(error).__name__}): type "
            f"`npm pack onnxruntime-web@{VERSION}` where there is a network, and add --onnxruntime "
            "with the file that it wrote."
        ) from None


def _unpacked(content: bytes, origin: Path | str) -> dict[str, bytes]:
    """The files of a package: name in the page's folder of the runtime -> content."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as package:
            for member, (name, sha256) in PACKAGE.items():
                file = package.extractfile(f"package/{member}")
                data = file.read() if file else b""
                if hashlib.sha256(data).hexdigest() == sha256:
                    found[name] = data
    except (tarfile.TarError, KeyError, EOFError, OSError):
        pass  # damaged, or another package: told below
    if len(found) < len(PACKAGE):
        raise PipelineError(
            f"{origin} is not onnxruntime-web {VERSION} as it was published: get it with "
            f"`npm pack onnxruntime-web@{VERSION}`, and name the file with --onnxruntime."
        )
    return found


if __name__ == "__main__":
    run(main)
