"""The page Classify: what the model makes of a sound file, a recording or a clip."""

from __future__ import annotations

import contextlib
import functools
import json
import random
from pathlib import Path

import gradio as gr

from genrepro.audio import AudioFault
from genrepro.core.errors import PipelineError
from genrepro.core.files import sha256
from genrepro.core.paths import EXPORT, REFERENCE
from tools import figures, results, unlike
from tools.app.look import QUIET, WAVE, notice, notice_box
from tools.app.picture import plain, spectrogram, svg
from tools.classifier import SILENCE, Classifier, Prediction

Loaded = tuple[Classifier, unlike.Reference | None]


def build(app: gr.Blocks) -> None:
    missing = notice_box()
    with gr.Row():
        with gr.Column(min_width=300):
            sound = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="A sound file or a recording",
                waveform_options=WAVE,
                buttons=[],
            )
            with gr.Row(elem_classes="controls"):
                example = gr.Dropdown([], label="Or a test clip", min_width=200)
                test_clip = gr.Button("Random test clip", size="md", min_width=140)
        with gr.Column(min_width=300):
            about = gr.Markdown()
            prediction = gr.Label(label="Prediction", num_top_classes=10)
            remarks = gr.Markdown()
    over_time = gr.HTML(visible=False)
    picture = gr.HTML()
    with gr.Accordion("The result as JSON", open=False, visible=False) as box:
        as_json = gr.Code(
            language="json", show_label=False, interactive=False, show_line_numbers=False
        )
    app.load(no_model, outputs=missing, **QUIET)
    app.load(examples, outputs=example, **QUIET)
    shown = [missing, about, prediction, remarks, over_time, picture, box, as_json]
    sound.change(classify, sound, shown, show_progress="minimal", api_visibility="private")
    example.input(lambda path: path, example, sound, **QUIET)
    test_clip.click(random_test_clip, outputs=[missing, sound], **QUIET)
    test_clip.click(lambda: None, outputs=example, **QUIET)  # which is not what is classified now


def no_model() -> dict:
    """A notice if there is no model, before anybody chooses a file."""
    if not (EXPORT / "config.json").exists():
        return notice(PipelineError(f"{EXPORT}/ contains no model: type `dvc repro`."))
    return notice(None)


def examples() -> dict:
    """One test clip of each label, to choose from."""
    try:
        frame = results.clips()
    except PipelineError:
        return gr.update()
    first = frame[frame["split"] == "test"].sort_values("clip").drop_duplicates("label")
    rows = first.sort_values("label")
    return gr.update(
        choices=[
            (f"{label} ({clip})", path)
            for label, clip, path in zip(rows["label"], rows["clip"], rows["path"])
        ],
        value=None,
    )


def random_test_clip() -> list:
    """A notice, and the file of a test clip."""
    try:
        return [notice(None), draw_test_clip()]
    except PipelineError as error:
        return [notice(error), None]


def draw_test_clip() -> str:
    """The file of a random test clip.

    Raises:
        PipelineError: there is none yet, or its file is missing.
    """
    frame = results.clips()
    paths = frame["path"][frame["split"] == "test"].tolist()
    if not paths:
        raise PipelineError("There is no test clip yet: type `dvc repro prepare`.")
    path = random.choice(paths)
    if not Path(path).exists():
        raise PipelineError(f"{path} does not exist: type `dvc repro -f fetch_data`.")
    return path


def classify(path: str | None) -> list:
    """A notice; the file, its prediction, remarks, the two pictures, and the result as JSON."""
    nothing = ["", None, "", gr.update(visible=False), "", gr.update(visible=False), ""]
    if path is None:
        return [no_model(), *nothing]
    file = Path(path)
    try:
        classifier, reference = loaded()
        found = classifier.file(file)
    except AudioFault as fault:
        error = PipelineError(f"{plain(file.name)} cannot be classified: {fault}.")
        return [notice(error), *nothing]
    except PipelineError as error:
        return [notice(error), *nothing]
    silent = bool(found.silent.all())
    drawn = gr.update(visible=False)
    if len(found.spans) > 1 and not silent:
        figure = figures.over_time(classifier.labels, found.spans, found.over_time, found.silent)
        drawn = gr.update(value=svg(figure, "Prediction over time"), visible=True)
    described = {"file": file.name} | found.described(classifier.labels)
    return [
        notice(None),
        origin(file),
        "silence" if silent else found.probabilities,
        " ".join(remarks(found, reference is not None)),
        drawn,
        spectrogram(file),
        gr.update(visible=True),
        json.dumps(described, indent=2, ensure_ascii=False),
    ]


def origin(file: Path) -> str:
    """The name of a file; of one with the content of a clip, that clip's label and split too."""
    text = f"**{plain(file.name)}**"
    with contextlib.suppress(PipelineError):
        frame = results.clips()
        same = frame[frame["sha256"] == sha256(file)]
        if len(same):
            clip = same.iloc[0]
            split = f"{clip['split']} clip" if clip["split"] else "clip that is in no split"
            text += f" is the {split} {plain(clip['clip'])}: **{plain(clip['label'])}**"
    return text


def remarks(found: Prediction, compared: bool) -> list[str]:
    """Sentences on what was processed, and how much the labels mean.

    Args:
        compared: whether the sound could be compared with the training clips.
    """
    count, silent = len(found.spans), int(found.silent.sum())
    said = [f"{found.seconds:.1f} s, in {count} segment{'s' * (count > 1)}."]
    if found.note:
        text = found.note if found.note == SILENCE else f"this sound is {found.note}"
        said.append(f"**{text[0].upper()}{text[1:]}**.")
    elif found.unlikeness:
        said.append("It is like the clips that this model was trained on.")
    if 0 < silent < count:
        said.append(f"{silent} of the segments are silence.")
    if found.unlikeness:
        said.append(
            f"Its distance to the nearest training clips is {found.unlikeness.distance:.2f}, where "
            "90% of the validation clips are below 1."
        )
    if not compared:
        said.append(f"To see how unlike the training clips it is, type `{unlike.COMMAND}`.")
    if found.cut_short:
        said.append(f"The file is damaged: {plain(found.cut_short)}.")
    if found.remark:
        said.append(f"Note: {plain(found.remark)}.")
    return said


def warm_up() -> None:
    """Load the model; if it is missing, that is reported when it is needed."""
    with contextlib.suppress(PipelineError):
        loaded()


def loaded() -> Loaded:
    """The exported model, and its training clips where they are known; again after a change."""
    files = (EXPORT / unlike.WEIGHTS, REFERENCE)
    return _load(tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files))


@functools.lru_cache(maxsize=1)
def _load(_versions: tuple[int, ...]) -> Loaded:
    reference = unlike.of_model(EXPORT)
    return Classifier(EXPORT, reference=reference), reference
