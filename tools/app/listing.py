"""A list of clips beside a player: the pages Clips and Mistakes differ in which clips they list.

The list filters, sorts and scrolls in the browser (listing.js), so that 10,000 clips are no work
here. Its choice comes back as the event `select`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from genrepro.core.errors import PipelineError
from genrepro.corpus.corrections import Correction
from tools import corrections
from tools.app import corpus
from tools.app.look import PLAIN, QUIET, WAVE, notice, notice_box

HERE = Path(__file__).parent
AT_ONCE = QUIET | {"queue": False}  # one request instead of three
Lister = Callable[[bool], corpus.Rows]  # with or without the predictions of experiments


def build(app: gr.Blocks, rows: Lister, show: str, sort: str) -> None:
    """Build the list, the player and the form for corrections.

    Args:
        rows: the clips to list, read again at each load.
        show, sort: what is listed first, and in which order: keys of SHOW and SORT in listing.js.
    """
    missing = notice_box()
    clip = gr.State()
    everywhere = gr.Checkbox(
        label="Include predictions from experiments (after a cross-validation, every clip has one)",
        container=False,
    )
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            listed = gr.HTML(
                "",
                html_template=(HERE / "listing.html").read_text(encoding="utf-8"),
                css_template=(HERE / "listing.css").read_text(encoding="utf-8"),
                js_on_load=(HERE / "listing.js").read_text(encoding="utf-8"),
                apply_default_css=False,
                marks="{}",
                show=show,
                sort=sort,
            )
        with gr.Column(scale=5, min_width=320):
            caption = gr.Markdown()
            players = [  # two, since gradio fixes autoplay when it makes one; one of them shows
                gr.Audio(
                    interactive=False,
                    autoplay=autoplay,
                    visible=not autoplay,
                    waveform_options=WAVE,
                    elem_classes="player",
                    **PLAIN,
                )
                for autoplay in (False, True)
            ]
            spectrogram = gr.HTML()
            probabilities = gr.Label(num_top_classes=5, show_label=False, show_heading=False)
            gr.Markdown("#### Is the label wrong?")
            with gr.Row(elem_classes="controls"):
                label = gr.Dropdown([], label="Right label", elem_id="right-label", min_width=130)
                note = gr.Textbox(label="Note, if you like", max_lines=1, min_width=130)
            with gr.Row():
                relabel = gr.Button("Correct the label", variant="primary", size="sm")
                leave_out = gr.Button("Leave the clip out", size="sm")
                undo = gr.Button("Undo", size="sm", min_width=60)
            outcome = gr.Markdown()
    for event in (app.load, everywhere.change):
        event(
            functools.partial(fill, rows), everywhere, [missing, listed, label, outcome], **AT_ONCE
        )
    shown = [missing, clip, caption, *players, spectrogram, probabilities, label, note, undo]
    listed.select(_selected, everywhere, shown, trigger_mode="always_last", **AT_ONCE)
    marked = [missing, listed, undo, outcome]
    relabel.click(correct, [clip, label, note], marked, **AT_ONCE)
    leave_out.click(lambda clip, note: correct(clip, "", note), [clip, note], marked, **AT_ONCE)
    undo.click(take_back, clip, marked, **AT_ONCE)


def fill(rows: Lister, everywhere: bool = False) -> list:
    """A notice, the list, the labels to choose from, and how many corrections there are."""
    try:
        found, labels = rows(everywhere), corpus.labels()
        marks, said = _marks(), outcome()
    except PipelineError as error:
        return [notice(error), gr.skip(), gr.skip(), gr.skip()]
    listed = gr.update(value=json.dumps(found._asdict()), marks=marks)
    return [notice(None), listed, gr.update(choices=labels), said]


def _marks() -> str:
    return json.dumps({clip: each.label for clip, each in corrections.read().items()})


def _selected(everywhere: bool, event: gr.EventData) -> list:
    return select(event.clip, event.play, everywhere)


def select(clip: str, play: bool, everywhere: bool = False) -> list:
    """A notice, then all that is shown of one clip.

    Args:
        play: whether it sounds at once; browsers allow that only after a key or a click.
    """
    try:
        found = corpus.clip(clip, everywhere)
        mark = corrections.read().get(clip)
    except PipelineError as error:
        return [notice(error), *[gr.skip()] * 9]
    right = (mark.label or None) if mark else found.predicted if found.is_wrong else None
    return [
        notice(found.fault),
        clip,
        found.caption,
        *(_player(found.path if plays == play else None) for plays in (False, True)),
        found.spectrogram or "",
        gr.update(value=found.probabilities, visible=found.probabilities is not None),
        right,
        mark.note if mark else "",
        gr.update(interactive=mark is not None),
    ]


def _player(path: str | None) -> dict:
    return gr.update(value=path, visible=path is not None)


def correct(clip: str | None, label: str | None, note: str) -> list:
    """Mark a clip with its right label, or leave it out if that is "".

    Returns:
        A notice, the list's marks, whether there is something to undo, and what to type next.
    """
    try:
        if clip is None:
            raise PipelineError("Choose a clip first.")
        if label is None:
            raise PipelineError("Choose the right label first, or leave the clip out.")
        if label == corpus.clip_label(clip):
            raise PipelineError(f"{clip} is labelled {label} already.")
        corrections.mark({clip: Correction(label, " ".join(note.split()))})
        return _after(undoable=True)
    except (PipelineError, OSError) as error:
        return [notice(PipelineError(str(error))), *[gr.skip()] * 3]


def take_back(clip: str | None) -> list:
    """Remove a clip's correction; returns what `correct` does."""
    try:
        corrections.undo(clip or "")
        return _after(undoable=False)
    except (PipelineError, OSError) as error:
        return [notice(PipelineError(str(error))), *[gr.skip()] * 3]


def _after(undoable: bool) -> list:
    marks = gr.update(marks=_marks())
    return [notice(None), marks, gr.update(interactive=undoable), outcome()]


def outcome() -> str:
    """How many corrections there are, and what to type so that they count."""
    found = corrections.read()
    if not found:
        return "No corrections yet. They are kept in a table; the sound files stay as they are."
    out = sum(not each.label for each in found.values())
    return (
        f"Labels corrected: **{len(found) - out}**, clips left out: **{out}** "
        f"([list](/?show=marked)), in `{corrections.place()}`. To train with that, type "
        f"`{corrections.command()}`."
    )
