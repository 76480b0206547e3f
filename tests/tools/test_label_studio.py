"""Tasks for Label Studio, and what is made of its answers."""

import json
import shutil
from pathlib import Path

import pytest

from genrepro.core.errors import PipelineError
from tests.support.samples import ROOT
from tests.tools.test_pictures import write_results
from tools import corrections, label_studio
from tools.label_studio import LEAVE_OUT

FILE = Path("tasks.json")


@pytest.fixture
def finished(in_tmp):
    write_results(in_tmp)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return in_tmp


def exported() -> dict[str, dict]:
    label_studio.export(FILE)
    return {task["data"]["clip"]: task for task in json.loads(FILE.read_text())}


def answers(**choices: str | list[str] | None) -> Path:
    """What Label Studio exports after these choices, one or one per annotator; None: skipped."""
    tasks = []
    for clip, given in choices.items():
        annotations = [
            {
                "id": number,
                "was_cancelled": choice is None,
                "ground_truth": False,
                "completed_by": number,
                "result": []
                if choice is None
                else [
                    {"id": "x1", "origin": "manual", **label_studio._choice(choice)},
                    *label_studio._note("by ear"),
                ],
            }
            for number, choice in enumerate(given if isinstance(given, list) else [given])
        ]
        data = {"clip": clip, "audio": "/data/local-files/?d=x.wav"}
        tasks.append({"id": 1, "annotations": annotations, "predictions": [], "data": data})
    FILE.write_text(json.dumps(tasks))
    return FILE


def test_a_task_has_address_label_and_prediction(finished, capsys):
    corrections.mark({"c10": corrections.Correction("", "two sounds")})
    tasks = exported()
    assert len(tasks) == 12
    assert tasks["c11"] == {
        "data": {
            "audio": "/data/local-files/?d=data/raw/007/c11.wav", "about": "c11 is labelled 007",
            "clip": "c11", "label": "007",
        },
        "predictions": [
            {"model_version": "genrepro", "score": 0.8, "result": [label_studio._choice("NA")]}
        ],
    }  # fmt: skip
    (annotation,) = tasks["c10"]["annotations"]
    assert [each["value"] for each in annotation["result"]] == [
        {"choices": [LEAVE_OUT]}, {"text": ["two sounds"]}
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "tasks.json holds 12 tasks." in said and '<Choice value="007"/>' in said
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={finished}" in said
    label_studio.export(FILE, "test")
    assert len(json.loads(FILE.read_text())) == 11
    with pytest.raises(PipelineError, match="no clip in the train split"):
        label_studio.export(FILE, "train")


def test_choices_that_differ_from_the_labels_become_corrections(finished, capsys):
    corrections.mark({"c00": corrections.Correction("NA", "earlier")})
    label_studio.import_(
        answers(c01="NA", c02="hum", c03=LEAVE_OUT, c04=None, c05=["hum", "NA"], c06=["NA", "NA"])
    )
    assert corrections.place().read_text() == (
        "clip,label,note\nc00,NA,earlier\nc02,hum,by ear\nc03,,by ear\nc06,NA,by ear\n"
    )
    said = capsys.readouterr().out
    assert said.startswith(
        "corpora/demo/corrections.csv: labels corrected: 2, clips left out: 1.\n"
    )
    assert "annotators disagree: c05" in said
    assert "type: dvc exp run -S data.corrections=corpora/demo/corrections.csv" in said


def test_what_was_exported_can_be_imported_again(finished):
    before = {"c10": corrections.Correction("hum", "by ear"), "c11": corrections.Correction("")}
    corrections.mark(before)
    tasks = [task for task in exported().values() if "annotations" in task]
    corrections.place().unlink()
    FILE.write_text(json.dumps(tasks))
    label_studio.import_(FILE)
    assert corrections.read() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no file tasks.json"),
        ("[", "is not what Label Studio exports as JSON"),
        ('{"a": 1}', "is not what Label Studio exports as JSON"),
        ('[{"data": {"clip": "c01"}}]', "is not what Label Studio exports as JSON"),
        ('[{"data": {"clip": "z"}, "annotations": []}]', "names the clip 'z', which is not in"),
    ],
)
def test_an_export_of_something_else_is_refused(finished, content, words):
    if content is not None:
        FILE.write_text(content)
    with pytest.raises(PipelineError, match=words):
        label_studio.import_(FILE)
    assert not corrections.place().exists()


def test_a_label_that_no_clip_has_is_refused(finished):
    with pytest.raises(PipelineError, match="gives the label 'hums', which no clip has"):
        label_studio.import_(answers(c01="hums"))


@pytest.mark.parametrize(
    ("corpus", "place"),
    [
        ("corpora/demo/", "corpora/demo/corrections.csv"),
        ("/home/me/My sounds (1)", "corpora/My-sounds-1-/corrections.csv"),
    ],
)
def test_corrections_have_a_place_that_needs_no_quotes(finished, corpus, place):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("corpus: corpora/demo ", f"corpus: {corpus} "))
    assert corrections.place() == Path(place)
