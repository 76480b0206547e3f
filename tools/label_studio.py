"""Review labels in Label Studio: export the clips as tasks, import the corrected labels.

    python -m tools.label_studio export tasks.json
    python -m tools.label_studio import export.json

`export` writes all clips, or those of one split, with their label, and for a test clip the
prediction; the clips stay where they are. `import` reads what Label Studio exports as JSON: a
choice that differs from the clip's label becomes a correction, which fetch_data applies.
"""

from __future__ import annotations

import argparse
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from genrepro.core.errors import PipelineError
from genrepro.core.files import write_json
from genrepro.core.paths import PREDICTIONS, RAW
from genrepro.core.stage import run
from genrepro.corpus.corrections import Correction
from tools import corrections, results

LEAVE_OUT = "(leave this clip out)"
HELP = """\
In Label Studio:
1. Start it so that it may serve data/raw:
   LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root} \\
     label-studio start
2. In a new project: Settings, Labeling Interface, Code; paste this:
{interface}
3. Settings, Cloud Storage, Add Source Storage, Local Files: {raw}; save it, do not sync.
4. Import {file}. Export as JSON when you are done, then type:
   python -m tools.label_studio import FILE"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.label_studio",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("export", "import"))
    parser.add_argument("file", type=Path, metavar="FILE", help="a JSON file")
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), help="export: only these clips"
    )
    args = parser.parse_args()
    if args.action == "export":
        export(args.file, args.split)
    else:
        import_(args.file)


def export(file: Path, split: str | None = None) -> None:
    """Write tasks in Label Studio's basic JSON format, and print what to do with them."""
    clips = results.clips()
    if split:
        clips = clips[clips["split"] == split]
    if clips.empty:
        raise PipelineError(f"there is no clip in the {split} split.")
    tested = {}
    if PREDICTIONS.exists():
        tested = {row["clip"]: row for _, row in results.predictions().iterrows()}
    marks = corrections.read()
    tasks = [
        _task(clip, tested.get(clip["clip"]), marks.get(clip["clip"]))
        for _, clip in clips.iterrows()
    ]
    write_json(file, tasks)
    root, raw = Path.cwd(), RAW.resolve()
    interface = _interface(sorted(results.clips()["label"].unique()))
    print(f"{file} holds {len(tasks)} tasks.\n")
    print(HELP.format(root=root, raw=raw, interface=interface, file=file))


def _task(clip: pd.Series, tested: pd.Series | None, mark: Correction | None) -> dict[str, Any]:
    """A task: the clip's address, and the prediction and the correction, where there is one."""
    about = f"{clip['clip']} is labelled {clip['label']}"
    data = {"audio": _address(clip["path"]), "about": about}
    data |= {key: clip[key] for key in ("clip", "label", "split", "group") if clip[key]}
    task: dict[str, Any] = {"data": data}
    if tested is not None:
        probability = results.probabilities(tested)[tested["predicted"]]
        task["predictions"] = [
            {
                "model_version": "genrepro",
                "score": probability,
                "result": [_choice(tested["predicted"])],
            }
        ]
    if mark is not None:
        task["annotations"] = [{"result": [_choice(mark.label or LEAVE_OUT), *_note(mark.note)]}]
    return task


def _address(path: str) -> str:
    """Label Studio serves files by their path below its document root, which is this folder."""
    return f"/data/local-files/?d={quote(path)}"


def _choice(label: str) -> dict[str, Any]:
    value = {"choices": [label]}
    return {"from_name": "right_label", "to_name": "audio", "type": "choices", "value": value}


def _note(note: str) -> list[dict[str, Any]]:
    result = {
        "from_name": "note",
        "to_name": "audio",
        "type": "textarea",
        "value": {"text": [note]},
    }
    return [result] if note else []


def _interface(labels: list[str]) -> str:
    choices = "\n".join(
        f'    <Choice value="{html.escape(label)}"/>' for label in [*labels, LEAVE_OUT]
    )
    return f"""\
<View>
  <Header value="$about"/>
  <Audio name="audio" value="$audio"/>
  <Choices name="right_label" toName="audio" choice="single" showInline="true">
{choices}
  </Choices>
  <TextArea name="note" toName="audio" placeholder="a note, if you like"/>
</View>"""


def import_(file: Path) -> None:
    """Turn choices that differ from the clips' labels into corrections.

    Raises:
        PipelineError: the file is no such export, or names a clip that is not in data/clips.csv.
    """
    labels = results.clips().set_index("clip")["label"].to_dict()
    found: dict[str, Correction] = {}
    undecided: list[str] = []
    for clip, choices, note in _answers(file):
        if clip not in labels:
            raise PipelineError(
                f"{file} names the clip {clip!r}, which is not in data/clips.csv: nothing was "
                "imported. It belongs to another corpus, or the corpus has changed."
            )
        if len(set(choices)) > 1:
            undecided.append(clip)
        elif choices and choices[0] != labels[clip]:
            found[clip] = Correction("" if choices[0] == LEAVE_OUT else choices[0], note)
    unknown = sorted({each.label for each in found.values() if each.label} - set(labels.values()))
    if unknown:
        raise PipelineError(
            f"{file} gives the label {unknown[0]!r}, which no clip has: nothing was imported."
        )
    corrections.mark(found)
    out = sum(not each.label for each in found.values())
    print(f"{corrections.place()}: labels corrected: {len(found) - out}, clips left out: {out}.")
    if undecided:
        print(f"Not imported, because annotators disagree: {', '.join(undecided)}")
    if found:
        print(f"To train with them, type: {corrections.command()}")


def _answers(file: Path) -> Iterator[tuple[str, list[str], str]]:
    """For each task its clip, the choices of its annotators, and their notes."""
    try:
        for task in json.loads(file.read_text(encoding="utf-8")):
            given = [
                each
                for annotation in task["annotations"]
                if not annotation.get("was_cancelled")  # the annotator skipped the task
                for each in annotation["result"]
            ]
            values = [(each["from_name"], each["value"]) for each in given]
            choices = [value["choices"][0] for name, value in values if name == "right_label"]
            notes = [text for name, value in values if name == "note" for text in value["text"]]
            yield task["data"]["clip"], choices, "; ".join(dict.fromkeys(notes))
    except FileNotFoundError:
        raise PipelineError(f"there is no file {file}.") from None
    except (ValueError, TypeError, LookupError, AttributeError):
        raise PipelineError(
            f"{file} is not what Label Studio exports as JSON, of tasks that "
            "`python -m tools.label_studio export` wrote."
        ) from None


if __name__ == "__main__":
    run(main)
