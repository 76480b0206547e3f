"""The page Clips: all clips of the corpus, to filter, sort, play and correct."""

from __future__ import annotations

import gradio as gr

from tools.app import corpus, listing


def build(app: gr.Blocks) -> None:
    listing.build(app, corpus.all_clips, show="all", sort="clip")
