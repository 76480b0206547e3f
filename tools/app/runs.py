"""The page Runs: the current run, all experiments, and two runs side by side."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import gradio as gr
import pandas as pd
import yaml

from genrepro.core.errors import PipelineError
from genrepro.core.paths import PARAMS
from tools import compare, experiments, figures, pictures
from tools import runs as stored
from tools.app import current
from tools.app.look import PLAIN, QUIET, WAVE, notice, notice_box
from tools.app.picture import plain, spectrogram, svg
from tools.baseline import LOCK, RESULTS, git
from tools.settings import differences, flat, shown

PICTURES = {
    "recall": "Recall of each label",
    "curves": "Learning curves",
    "confusion": "Confusion matrix of the test clips",
    "reliability": "Accuracy by confidence",
}
MOST_DISAGREEMENTS = 200  # that are listed
NEITHER = "Choose two runs to see whether one is better, and on which clips they disagree."


def build(app: gr.Blocks) -> None:
    _this_run(app)
    gr.Markdown("## Experiments")
    table = gr.HTML("Reading the experiments …")
    gr.Markdown("## Two runs side by side")
    with gr.Row(elem_classes="controls"):
        a = gr.Dropdown([], label="A, the baseline", allow_custom_value=True)
        b = gr.Dropdown([], label="B, the candidate", allow_custom_value=True)
    app.load(list_experiments, outputs=[table, a, b], **QUIET)
    _side_by_side(a, b)


def _this_run(app: gr.Blocks) -> None:
    missing = notice_box()
    about = gr.Markdown()
    shown = {}
    with gr.Row():
        with gr.Column(min_width=360):
            metrics = gr.Markdown(elem_classes="metrics")
        with gr.Column(min_width=360):
            shown["recall"] = gr.HTML()
    shown["curves"] = gr.HTML()
    with gr.Row():
        for name in ("confusion", "reliability"):
            with gr.Column(min_width=360):
                shown[name] = gr.HTML()
    with gr.Accordion("Parameters", open=False):
        parameters = gr.HTML()
    app.load(
        lambda: this_run(list(shown)),
        outputs=[missing, about, parameters, metrics, *shown.values()],
        **QUIET,
    )


def this_run(names: Sequence[str]) -> list:
    """A notice of what is missing; then commit, parameters, metrics and pictures, where known."""
    missing: dict[str, None] = {}

    def attempt(make: Callable[[], object]) -> dict:
        try:
            return gr.update(value=make(), visible=True)
        except PipelineError as error:
            missing[str(error)] = None
            return gr.update(value=None, visible=False)

    shown = [attempt(make) for make in (origin, parameters, current.metrics)]
    shown += [attempt(functools.partial(picture, name)) for name in names]
    error = PipelineError("\n\n".join(missing)) if missing else None
    return [notice(error), *shown]


def picture(name: str) -> str:
    return svg(pictures.FIGURES[name](), PICTURES[name])


def origin() -> str:
    """Which commit the results are of and from when, or that they are not committed."""
    known = git("log", "-1", "--format=%h (%cs): %s", "--", str(LOCK)).strip()
    if git("status", "--porcelain", "--", *map(str, RESULTS)) or not known:
        if not LOCK.exists():
            raise PipelineError(f"{LOCK} does not exist yet: type `dvc repro`.")
        when = datetime.fromtimestamp(LOCK.stat().st_mtime)
        last = f"; the last committed ones are of {plain(known)}" if known else ""
        return f"Results of {when:%Y-%m-%d %H:%M}, not committed{last}."
    return f"Results of commit {plain(known)}."


def parameters() -> str:
    """The parameters that the results were made with, and which differ from elsewhere."""
    if not LOCK.exists():
        raise PipelineError(f"{LOCK} does not exist yet: type `dvc repro`.")
    used = used_parameters(LOCK.read_text(encoding="utf-8"))
    committed = used_parameters(git("show", f"HEAD:./{LOCK}")) or used
    now = flat(yaml.safe_load(PARAMS.read_text(encoding="utf-8")))
    rows = []
    for key, value in used.items():
        remarks = []
        if key in differences(committed, used):
            remarks.append(f"in the last commit: {shown(committed.get(key))}")
        if key in now and key in differences(used, now):
            remarks.append(f"in params.yaml by now: {shown(now[key])}, so type `dvc repro`")
        rows.append([key, shown(value), "; ".join(remarks)])
    return html_table(["parameter", "value", ""], rows)


def used_parameters(lock: str) -> dict[str, object]:
    """The parameters in the text of a dvc.lock, flat."""
    stages = (yaml.safe_load(lock) or {}).get("stages", {}).values()
    sections = [section for stage in stages for section in stage.get("params", {}).values()]
    return {key: value for section in sections for key, value in flat(section).items()}


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls where it does not fit; leading spaces indent."""

    def line(cells: Sequence[str], kind: str) -> str:
        shown = (html.escape(cell).replace("  ", "&emsp;") for cell in cells)
        return "<tr>" + "".join(f"<{kind}>{cell}</{kind}>" for cell in shown) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return (
        '<div class="metrics" style="overflow-x: auto"><table><thead>'
        f"{line(head, 'th')}</thead><tbody>{body}</tbody></table></div>"
    )


# All experiments


def list_experiments() -> list:
    """The table of `make experiments`, and the runs to choose from."""
    try:
        rows = experiments.collected()
    except PipelineError as error:
        return [html.escape(str(error)), gr.update(), gr.update()]
    names = [row[0].strip().split(" (")[0] for row in rows if row[3]]  # finished ones
    names = list(dict.fromkeys(["workspace", *names]))
    first = next((name for name in names if name != "workspace"), None)
    return [
        html_table(experiments.HEAD, rows),
        gr.update(choices=names, value=first),
        gr.update(choices=names, value=None),
    ]


# Two runs side by side


def _side_by_side(a: gr.Dropdown, b: gr.Dropdown) -> None:
    missing = notice_box()
    summary = gr.Markdown(NEITHER)
    drawn = []
    with gr.Row():
        for _ in range(3):  # the third in a row of its own: ticks would be too small
            with gr.Column(min_width=400):
                drawn.append(gr.HTML())
    with gr.Row(visible=False) as content:
        with gr.Column(scale=2, min_width=300):
            choice = gr.Radio([], label="Clips on which they disagree", elem_classes="choices")
        with gr.Column(scale=3, min_width=300):
            caption = gr.Markdown()
            player = gr.Audio(interactive=False, waveform_options=WAVE, **PLAIN)
            picture = gr.HTML()
    shown = [missing, summary, *drawn, content, choice]
    for picker in (a, b):
        picker.change(side_by_side, [a, b], shown, **QUIET)
    choice.change(listen, [choice, a, b], [missing, caption, player, picture], **QUIET)


def side_by_side(a: str | None, b: str | None) -> list:
    """A notice, the difference in a sentence, three pictures, and where the two disagree."""
    nothing = [gr.update(value="")] * 3 + [gr.update(visible=False), gr.update(choices=[])]
    if not a or not b:
        return [notice(None), NEITHER, *nothing]
    try:
        before, after = stored.predictions(a), stored.predictions(b)
        sentence = compare.sentence(compare.compare([before], [after]), a, b)
    except PipelineError as error:
        return [notice(error), "", *nothing]
    both = paired(before, after)
    label, first, second = both["label"], both["predicted_a"], both["predicted_b"]
    title = f"{b} minus {a}"
    drawn = [
        svg(figures.confusion(label, first, a), f"Confusion matrix of {a}"),
        svg(figures.confusion(label, second, b), f"Confusion matrix of {b}"),
        svg(figures.confusion_change(label, first, second, title), title),
    ]
    apart = disagreements(both)
    choices = [(described(row, a, b), row.clip) for row in apart[:MOST_DISAGREEMENTS]]
    more = f" The first {MOST_DISAGREEMENTS} are listed." if len(apart) > len(choices) else ""
    text = f"{plain(sentence)} They disagree on {len(apart):,} of {len(both):,} clips.{more}"
    value = choices[0][1] if choices else None
    return [
        notice(None), text, *drawn,
        gr.update(visible=bool(apart)), gr.update(choices=choices, value=value),
    ]  # fmt: skip


def paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The clips that both were tested on: clip, path, label, predicted_a, predicted_b."""
    columns = ["clip", "predicted"]
    return a.merge(b[columns], on="clip", suffixes=("_a", "_b")).sort_values("clip")


def disagreements(both: pd.DataFrame) -> list:
    """The clips with different predictions, those first that only one has right."""
    apart = both[both["predicted_a"] != both["predicted_b"]]
    neither = (apart["predicted_a"] != apart["label"]) & (apart["predicted_b"] != apart["label"])
    return list(apart.assign(neither=neither).sort_values(["neither", "clip"]).itertuples())


def described(row, a: str, b: str) -> str:
    """A clip, and what each run predicts."""
    answers = (
        f"{name}: {predicted}{' (right)' if predicted == row.label else ''}"
        for name, predicted in ((a, row.predicted_a), (b, row.predicted_b))
    )
    return f"{row.label} · {' · '.join(answers)} ({row.clip})"


def listen(clip: str | None, a: str, b: str) -> list:
    """A notice, then caption, file and picture of a clip."""
    if not clip:
        return [gr.skip()] * 4
    try:
        both = paired(stored.predictions(a), stored.predictions(b))
        row = next(each for each in disagreements(both) if each.clip == clip)
        return [
            notice(None), plain(described(row, a, b)), row.path, spectrogram(Path(row.path))
        ]  # fmt: skip
    except (PipelineError, OSError) as error:
        return [notice(PipelineError(str(error))), *[gr.skip()] * 3]
