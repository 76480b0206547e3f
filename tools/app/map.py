"""The page Map: all clips as points, close together where the model finds them alike."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pandas as pd

from genrepro.core.errors import PipelineError
from tools import results, unlike
from tools.app.look import PLAIN, QUIET, WAVE, notice, notice_box
from tools.app.picture import plain, spectrogram

TEMPLATE = """
<div class="map-controls">
  <label>Colour <select><option value="label">label</option>
    <option value="error">wrong predictions</option></select></label>
  <label>Split <select><option>all</option><option>train</option>
    <option>validation</option><option>test</option></select></label>
  <span><button data-factor="1.5" aria-label="Zoom in">+</button>
    <button data-factor="0.667" aria-label="Zoom out">−</button>
    <button data-factor="0" aria-label="Show all">All</button></span>
</div>
<div class="legend"></div>
<canvas tabindex="0" role="application" aria-label="Map of the clips. Arrow keys go to the next
  clip that way, Enter plays it, plus and minus zoom, 0 shows all."></canvas>
<div class="status" aria-live="polite"></div>
"""
CSS = """
.map-controls { display: flex; flex-wrap: wrap; gap: 6px 20px; margin-bottom: 8px; }
select, .map-controls button {
    background: var(--input-background-fill); color: var(--body-text-color); padding: 4px 8px;
    border: 1px solid var(--border-color-primary); border-radius: 4px; font: inherit; }
select { appearance: auto; }
canvas { width: 100%; height: min(560px, 70vh); display: block; touch-action: pan-y;
         border: 1px solid var(--border-color-primary); border-radius: 4px;
         background: var(--background-fill-secondary); }
canvas:focus-visible { outline: 2px solid var(--primary-500, #2f6db3); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 6px; max-height: 120px; overflow-y: auto;
          margin-bottom: 8px; }
.legend > * { display: inline-flex; align-items: center; gap: 6px; padding: 2px 8px;
                 border: 1px solid transparent; border-radius: 4px; color: var(--body-text-color); }
.legend button[aria-pressed=true] { border-color: var(--body-text-color); }
.legend i { width: 12px; height: 12px; }
.status { min-height: 1.6em; margin-top: 4px; color: var(--body-text-color); }
"""
HELP = (
    "Click on a clip to listen to it, or go through them with the arrow keys and press Enter. "
    "`+` and `-` zoom, `0` shows all, and dragging moves what is zoomed."
)


def build(app: gr.Blocks) -> None:
    missing = notice_box()
    about = gr.Markdown()
    points = gr.HTML(
        html_template=TEMPLATE,
        css_template=CSS,
        js_on_load=Path(__file__).with_name("map.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        visible=False,
    )
    caption = gr.Markdown()
    player = gr.Audio(
        interactive=False, waveform_options=WAVE, autoplay=True, visible=False, **PLAIN
    )
    picture = gr.HTML()
    app.load(show, outputs=[missing, about, points], **QUIET)
    points.select(choose, outputs=[missing, caption, player, picture], **QUIET)


def show() -> list:
    """A notice, what the map is, and its points."""
    try:
        frame, how = unlike.read()
    except PipelineError as error:
        return [notice(error), "", gr.update(visible=False)]
    about = f"Every point is a clip, placed by {how} {HELP}"
    return [notice(None), about, gr.update(value=points_of(frame), visible=True)]


def points_of(frame: pd.DataFrame) -> dict:
    """What map.js draws: labels, and for each clip its name, label, split, prediction and place."""
    labels = sorted({*frame["label"], *frame["predicted"]})
    number = {label: index for index, label in enumerate(labels)}
    rows = zip(
        frame["clip"],
        frame["label"].map(number).tolist(),
        frame["split"],
        frame["predicted"].map(number).tolist(),
        frame["x"].round(4).tolist(),
        frame["y"].round(4).tolist(),
    )
    return {"labels": labels, "clips": [list(row) for row in rows]}


def choose(event: gr.EventData) -> list:
    """A notice, then caption, file and picture of the clip that was clicked on."""
    try:
        return [notice(None), *chosen(event.clip)]
    except PipelineError as error:
        return [notice(error), *[gr.skip()] * 3]


def chosen(clip: str) -> list:
    """Caption, player and picture of a clip.

    Raises:
        PipelineError: its file is missing or damaged, or there is no such clip by now.
    """
    clips = results.clips().set_index("clip")
    if clip not in clips.index:
        raise PipelineError(f"There is no clip {clip} any more: reload this page.")
    row = clips.loc[clip]
    about = [row["split"] or "unused", row["title"], row["group"]]
    caption = f"{row['label']} · {clip} · " + " · ".join(filter(None, about))
    picture = spectrogram(Path(row["path"]))
    return [plain(caption), gr.update(value=row["path"], visible=True), picture]
