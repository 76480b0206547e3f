"""Classify sound files of any length, or folders of them: labels with probabilities.

The prediction for a file is the average over its segments; --json also gives that of each segment.
After `python -m tools.embeddings`, it also says which files are unlike the training clips.
For example: python -m tools.predict song.mp3 albums/ --json
"""

import argparse
import functools
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import cast

from genrepro.audio import AudioFault, sound_extension
from genrepro.core import processes
from genrepro.core.errors import PipelineError
from genrepro.core.processes import workers
from genrepro.core.stage import run
from tools import unlike
from tools.classifier import EXPORT, SILENCE, UNLIKE, Classifier

MANY = 64  # files for which processes, which take seconds to start, are faster than threads


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="a file or a folder")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--model",
        type=Path,
        default=EXPORT,
        help=f"a folder written by the export stage; default: {EXPORT}",
    )
    args = parser.parse_args()
    cast(io.TextIOWrapper, sys.stdout).reconfigure(
        errors="backslashreplace"
    )  # file names need not be UTF-8
    files, others = sound_files(args.paths)
    results = classify(files, args.model)
    print(json.dumps(results, indent=2, ensure_ascii=False) if args.json else table(results))
    if others:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        print(f"skipped, since they are not audio: {counts}", file=sys.stderr)
    if failed := [result for result in results if "error" in result]:
        sys.exit(f"error: {len(failed)} of {len(results)} files could not be classified.")


def sound_files(paths: list[Path]) -> tuple[list[Path], Counter[str]]:
    """The given files, and the sound files in the given folders, sorted; each file once.

    Returns:
        The files, and how many others the folders have, by ending.

    Raises:
        PipelineError: a path does not exist, or a folder has no sound files.
    """
    found: dict[Path, None] = {}
    others: Counter[str] = Counter()
    for path in paths:
        if not path.exists():
            raise PipelineError(f"{path} does not exist: name a sound file or a folder of them.")
        if not path.is_dir():
            found[path] = None
            continue
        files = sorted(each for each in path.rglob("*") if not each.is_dir())
        kinds = {each: _not_a_sound(each) for each in files}
        sounds = [each for each, kind in kinds.items() if not kind]
        if not sounds:
            raise PipelineError(f"{path} contains no sound file.")
        found |= dict.fromkeys(sounds)
        others.update(kind for kind in kinds.values() if kind)
    return list(found), others


def _not_a_sound(path: Path) -> str | None:
    """Why a file of a folder is passed over: it is hidden, or its ending; None for a sound file."""
    if path.name.startswith("."):
        return "hidden"
    return None if sound_extension(path) else path.suffix.lower() or "without ending"


def classify(paths: list[Path], model: Path) -> list[dict]:
    """One dict per file, in order: file, label, probability, …, or file and error."""
    if len(paths) < MANY or workers() == 1 or _on_gpu():
        classifier = Classifier(model, reference=unlike.of_model(model))
        return [described(classifier, path) for path in paths]
    jobs = [(str(model), str(path)) for path in paths]
    return processes.map_processes(_one, jobs, "classify")


def _on_gpu() -> bool:
    """Whether there is a GPU: several processes would fill its memory and gain no speed."""
    import torch

    return torch.cuda.is_available()


def described(classifier: Classifier, path: Path) -> dict:
    """What `--json` prints for one file; seconds and probabilities are rounded."""
    try:
        prediction = classifier.file(path)
    except (AudioFault, OSError) as fault:
        return {"file": str(path), "error": getattr(fault, "strerror", None) or str(fault)}
    return {"file": str(path)} | prediction.described(classifier.labels)


def _one(job: tuple[str, str]) -> dict:
    model, path = job
    return described(_classifier(model), Path(path))


@functools.cache  # once per process
def _classifier(model: str) -> Classifier:
    return Classifier(Path(model), threads=1, reference=unlike.of_model(Path(model)))


def table(results: list[dict]) -> str:
    """One line per file: the most likely labels with their probabilities, or the error."""
    width = max(len(result["file"]) for result in results)
    return "\n".join(f"{result['file']:{width}}  {_words(result)}" for result in results)


def _words(result: dict) -> str:
    if "error" in result:
        return f"– {result['error']}"
    ranked = list(result["probabilities"].items())[:3]
    words = ", ".join(f"{label} {p:.3f}" for label, p in ranked)
    if result["silent"]:
        words = SILENCE
    elif result.get("unlikeness", {}).get("unlike"):
        words += f"  ({UNLIKE})"
    notes = "; ".join(filter(None, (result["cut_short"], result["remark"])))
    return words + (f"  ({notes})" if notes else "")


if __name__ == "__main__":
    run(main)
