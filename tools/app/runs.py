"""The page Runs: figures and pictures of the current run."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from genrepro.core.errors import PipelineError
from tools import pictures
from tools.app import sounds
from tools.app.look import QUIET, notice, notice_box


def build(app: gr.Blocks) -> None:
    missing = notice_box()
    plots = {}
    with gr.Row():
        metrics = gr.Markdown(elem_classes="metrics")
        plots["recall"] = gr.Plot(show_label=False, min_width=420)
    plots["curves"] = gr.Plot(show_label=False)
    with gr.Row():
        plots["confusion"] = gr.Plot(show_label=False, min_width=420)
        plots["reliability"] = gr.Plot(show_label=False, min_width=420)
    shown = [missing, metrics, *plots.values()]
    app.load(lambda: runs(list(plots)), outputs=shown, **QUIET)


def runs(names: list[str]) -> list:
    """A notice of what is missing, the table of metrics, and the pictures that can be drawn."""
    missing: dict[str, None] = {}

    def attempt(draw: Callable[[], object]) -> dict:
        try:
            return gr.update(value=draw(), visible=True)
        except PipelineError as error:
            missing[str(error)] = None
            return gr.update(value=None, visible=False)

    shown = [attempt(sounds.metrics)]
    shown += [attempt(pictures.FIGURES[name]) for name in names]
    error = PipelineError("\n\n".join(missing)) if missing else None
    return [notice(error), *shown]
