"""The page Mistakes: the wrongly predicted test clips, where wrong labels show first."""

from __future__ import annotations

import gradio as gr

from tools.app import corpus, listing

ABOUT = """\
The test clips that the model predicted wrongly, the highest loss first: there the model is most
certain that the label is wrong, and sometimes it is right. Correcting only what a model got wrong
flatters that model, so compare models on the same corrected clips."""


def build(app: gr.Blocks) -> None:
    gr.Markdown(ABOUT)
    listing.build(app, corpus.mistakes, show="all", sort="loss")
