"""The page Mistakes: the wrongly predicted test clips, where wrong labels show first."""

from __future__ import annotations

import gradio as gr

from tools.app import listing, sounds

ABOUT = """\
The test clips that the model predicted wrongly, the most confident mistake first: a wrong label is
near the top. Corrections made here favour this model: its test accuracy rises although it has
learned nothing. Compare models on the same corrected clips."""


def build(app: gr.Blocks) -> None:
    gr.Markdown(ABOUT)
    listing.build(app, sounds.mistakes, show="all", sort="loss")
