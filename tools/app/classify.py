"""The page Classify: classify a sound file or a recording."""

from __future__ import annotations

import gradio as gr

from genrepro.core.errors import PipelineError
from tools.app import sounds
from tools.app.look import QUIET, WAVE, notice, notice_box


def build(app: gr.Blocks) -> None:
    missing = notice_box()
    with gr.Row():
        with gr.Column():
            sound = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="A sound file or a recording",
                waveform_options=WAVE,
                buttons=[],
            )
            test_clip = gr.Button("Random test clip", size="md")
        with gr.Column():
            prediction = gr.Label(label="Prediction", num_top_classes=10)
            note = gr.Markdown()
    over_time = gr.Plot(show_label=False, visible=False)
    app.load(no_model, outputs=missing, **QUIET)
    shown = [missing, prediction, note, over_time]
    sound.change(classify, sound, shown, show_progress="minimal", api_visibility="private")
    test_clip.click(random_test_clip, outputs=[missing, sound], **QUIET)


def no_model() -> dict:
    """A notice if there is no model, before anybody chooses a file."""
    try:
        sounds.check_export()
    except PipelineError as error:
        return notice(error)
    return notice(None)


def classify(path: str | None) -> list:
    """A notice, the probabilities, a note on the sound, and the prediction over time."""
    nothing = [gr.update(value=None), "", gr.update(value=None, visible=False)]
    if path is None:
        return [no_model(), *nothing]
    try:
        found = sounds.classify(path)
    except PipelineError as error:
        return [notice(error), *nothing]
    picture = gr.update(value=found.over_time, visible=found.over_time is not None)
    return [notice(None), found.probabilities, found.note, picture]


def random_test_clip() -> list:
    try:
        return [notice(None), sounds.draw_clips(sounds.ANY, "test", 1)[0].path]
    except PipelineError as error:
        return [notice(error), None]
