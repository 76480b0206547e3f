"""The page Mistakes: the wrongly predicted test clips, to listen to."""

from __future__ import annotations

import gradio as gr

from genrepro.core.errors import PipelineError
from tools.app import sounds
from tools.app.look import PLAIN, QUIET, WAVE, notice, notice_box


def build(app: gr.Blocks) -> None:
    missing = notice_box()
    with gr.Row(visible=False) as content:
        with gr.Column(scale=2, min_width=300):
            choice = gr.Radio([], label="Most confident mistakes first", elem_classes="choices")
        with gr.Column(scale=3, min_width=420):
            caption = gr.Markdown()
            player = gr.Audio(interactive=False, waveform_options=WAVE, **PLAIN)
            picture = gr.Plot(show_label=False)
            probabilities = gr.Label(num_top_classes=5, show_label=False, show_heading=False)
    app.load(mistakes, outputs=[missing, content, choice], **QUIET)
    choice.change(mistake, choice, [missing, caption, player, picture, probabilities], **QUIET)


def mistakes() -> list:
    """A notice, whether there is anything to show, and the list with its first entry selected."""
    try:
        found = sounds.mistakes()
    except PipelineError as error:
        return [notice(error), gr.update(visible=False), gr.update(choices=[], value=None)]
    if not found:
        none = PipelineError("The model predicted every test clip correctly.")
        return [notice(none), gr.update(visible=False), gr.update(choices=[], value=None)]
    choices = [
        (
            f"{each.label} predicted as {each.predicted}, {each.probability:.2f} ({each.clip})",
            each.clip,
        )
        for each in found
    ]
    return [
        notice(None), gr.update(visible=True), gr.update(choices=choices, value=choices[0][1])
    ]  # fmt: skip


def mistake(clip: str | None) -> list:
    """A notice, then caption, file, picture and probabilities of one mistake."""
    try:
        found = {each.clip: each for each in sounds.mistakes()}
        if clip not in found:
            return [gr.skip()] * 5
        chosen = found[clip]
        picture = chosen.picture()
    except (PipelineError, OSError) as error:
        return [notice(PipelineError(str(error))), *[gr.skip()] * 4]
    return [
        notice(None), chosen.sound.caption, chosen.sound.path, picture, chosen.probabilities
    ]  # fmt: skip
