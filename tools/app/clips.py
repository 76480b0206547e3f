"""The page Clips: listen to the corpus."""

from __future__ import annotations

import gradio as gr

from genrepro.core.errors import PipelineError
from tools.app import sounds
from tools.app.look import PLAIN, QUIET, WAVE, notice, notice_box

PLAYERS = 4  # clips shown at once


def build(app: gr.Blocks) -> None:
    missing = notice_box()
    with gr.Row(elem_classes="controls"):
        label = gr.Dropdown([sounds.ANY], value=sounds.ANY, label="Label")
        split = gr.Dropdown([sounds.ANY, *sounds.SPLITS], value=sounds.ANY, label="Split")
        another = gr.Button("Other clips", variant="primary", scale=0, min_width=180)
    players: list[gr.components.Component] = []
    for _ in range(PLAYERS // 2):
        with gr.Row():
            for _ in range(2):
                with gr.Column(min_width=320):
                    players.append(gr.Markdown())
                    players.append(gr.Audio(interactive=False, waveform_options=WAVE, **PLAIN))
    for event in (another.click, label.change, split.change, app.load):
        event(listen, [label, split], [missing, *players], **QUIET)
    app.load(label_choices, outputs=label, **QUIET)


def label_choices() -> dict:
    try:
        return gr.update(choices=[sounds.ANY, *sounds.labels()])
    except PipelineError:
        return gr.update()


def listen(label: str, split: str) -> list:
    """A notice, then a caption and a file per player."""
    try:
        drawn, error = sounds.draw_clips(label, split, PLAYERS), None
    except PipelineError as found:
        drawn, error = [], found
    shown = [
        update
        for sound in drawn
        for update in (
            gr.update(value=sound.caption, visible=True),
            gr.update(value=sound.path, visible=True),
        )
    ]
    hidden = [gr.update(value=None, visible=False)] * (2 * PLAYERS - len(shown))
    return [notice(error), *shown, *hidden]
