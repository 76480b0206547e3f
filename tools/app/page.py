"""The frame of the app: one page per question, each with its own address."""

from __future__ import annotations

import gradio as gr

from genrepro.core.errors import PipelineError
from tools import figures
from tools.app import classify, clips, current, map, mistakes, runs
from tools.app.look import QUIET

PAGES = {  # the first is at /, the others at /mistakes and so on
    "Clips": clips.build,
    "Mistakes": mistakes.build,
    "Map": map.build,
    "Runs": runs.build,
    "Classify": classify.build,
}


def build() -> gr.Blocks:
    """Build all pages; their content is filled in whenever a browser loads one."""
    figures.use_style()
    app = gr.Blocks(title="genrepro", analytics_enabled=False, delete_cache=(3600, 24 * 3600))
    first, *_ = PAGES
    for name, build_page in PAGES.items():
        with app if name == first else app.route(name):
            gr.Navbar(main_page_name=first)
            gr.Markdown("# genrepro")
            headline = gr.Markdown()
            app.load(show_headline, outputs=headline, **QUIET)
            build_page(app)
    return app


def show_headline() -> str:
    """Corpus and accuracy, or what to type first."""
    try:
        return current.headline()
    except PipelineError:
        return "There is no finished run here yet: type `dvc repro`."
