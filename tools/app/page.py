"""The page: four tabs, each of which names what is missing and the command that produces it."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from genrepro.core.errors import PipelineError
from tools import figures, pictures
from tools.app import sounds

PLAYERS = 4  # clips shown at once on the tab Listen
FONTS = ["system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]  # nothing to download
LOOK = {
    "theme": gr.themes.Soft(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="sm",
        font=FONTS,
        font_mono=FONTS,
    ).set(  # the theme's own blues and greys are too pale to read: below 4.5 to 1
        background_fill_primary="*neutral_50",  # Soft's own value, which set() would reset to white
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        link_text_color="*primary_700",
    ),
    "css": """
        .gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
        .gradio-container, .gradio-container main { width: 100% !important; }
        .controls { align-items: end; }
        .choices .wrap { max-height: 620px; overflow-y: auto; flex-wrap: nowrap;
                         flex-direction: column; }
        .tab-container button.selected { color: var(--block-label-text-color) !important; }
        .component-wrapper :is(.timestamps, .timestamps time, .controls button) {
            color: var(--body-text-color-subdued) !important; }
        .metrics { align-self: center; min-width: min(420px, 100%) !important; flex: 1; }
        .metrics td:not(:first-child) { white-space: nowrap; }
        .metrics :is(th, td) { word-break: normal !important; }
        @media (max-width: 480px) {  /* a phone: fit all three columns */
            .metrics :is(th, td) { padding: 6px 4px !important; font-size: 13px; }
        }
        .metrics table, .metrics thead, .metrics tbody, .metrics tr { border: none !important; }
        .metrics th, .metrics td {
            border-style: none none solid !important; border-color: #9aa3ad55 !important; }
        .notice { padding: 14px 18px; border-left: 4px solid #d9772b; background: #d9772b1a;
                  border-radius: 4px; }
        .notice .notice { padding: 0; border: none; background: none; }
    """,
}
WAVE = gr.WaveformOptions(waveform_color="#b9cfe6", waveform_progress_color="#2f6db3")
PLAIN = {"buttons": [], "show_label": False}


def build() -> gr.Blocks:
    """Build the page; its content is filled in whenever a browser loads it."""
    figures.use_style()
    with gr.Blocks(
        title="genrepro", analytics_enabled=False, delete_cache=(3600, 24 * 3600)
    ) as page:
        gr.Markdown("# genrepro")
        headline = gr.Markdown()
        page.load(_headline, outputs=headline, **QUIET)
        with gr.Tab("Listen"):
            _listen(page)
        with gr.Tab("Classify"):
            _classify(page)
        with gr.Tab("Mistakes"):
            _mistakes(page)
        with gr.Tab("Runs"):
            _runs(page)
    return page


QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def notice(error: PipelineError | None) -> dict:
    """Show what is missing, or hide the notice."""
    return gr.update(value=str(error or ""), visible=error is not None)


def _notice() -> gr.Markdown:
    return gr.Markdown(visible=False, elem_classes="notice")


def _headline() -> str:
    try:
        return sounds.headline()
    except PipelineError:
        return "There is no finished run here yet: type `dvc repro`."


# Listen


def _listen(page: gr.Blocks) -> None:
    missing = _notice()
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
    for event in (another.click, label.change, split.change, page.load):
        event(listen, [label, split], [missing, *players], **QUIET)
    page.load(label_choices, outputs=label, **QUIET)


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


# Classify


def _classify(page: gr.Blocks) -> None:
    missing = _notice()
    with gr.Row():
        with gr.Column():
            sound = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="A sound file or a recording",
                waveform_options=WAVE,
                buttons=[],
            )
            test_clip = gr.Button("Random test clip", size="md")
        with gr.Column():
            prediction = gr.Label(label="Prediction", num_top_classes=10)
            note = gr.Markdown()
    over_time = gr.Plot(show_label=False, visible=False)
    page.load(no_model, outputs=missing, **QUIET)
    shown = [missing, prediction, note, over_time]
    sound.change(classify, sound, shown, show_progress="minimal", api_visibility="private")
    test_clip.click(random_test_clip, outputs=[missing, sound], **QUIET)


def no_model() -> dict:
    """A notice if there is no model, before anybody chooses a file."""
    try:
        sounds.check_export()
    except PipelineError as error:
        return notice(error)
    return notice(None)


def classify(path: str | None) -> list:
    """A notice, the probabilities, a note on the sound, and the prediction over time."""
    nothing = [gr.update(value=None), "", gr.update(value=None, visible=False)]
    if path is None:
        return [no_model(), *nothing]
    try:
        found = sounds.classify(path)
    except PipelineError as error:
        return [notice(error), *nothing]
    picture = gr.update(value=found.over_time, visible=found.over_time is not None)
    return [notice(None), found.probabilities, found.note, picture]


def random_test_clip() -> list:
    try:
        return [notice(None), sounds.draw_clips(sounds.ANY, "test", 1)[0].path]
    except PipelineError as error:
        return [notice(error), None]


# Mistakes


def _mistakes(page: gr.Blocks) -> None:
    missing = _notice()
    with gr.Row(visible=False) as content:
        with gr.Column(scale=2, min_width=300):
            choice = gr.Radio([], label="Most confident mistakes first", elem_classes="choices")
        with gr.Column(scale=3, min_width=420):
            caption = gr.Markdown()
            player = gr.Audio(interactive=False, waveform_options=WAVE, **PLAIN)
            picture = gr.Plot(show_label=False)
            probabilities = gr.Label(num_top_classes=5, show_label=False, show_heading=False)
    page.load(mistakes, outputs=[missing, content, choice], **QUIET)
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


# Runs


def _runs(page: gr.Blocks) -> None:
    missing = _notice()
    plots = {}
    with gr.Row():
        metrics = gr.Markdown(elem_classes="metrics")
        plots["recall"] = gr.Plot(show_label=False, min_width=420)
    plots["curves"] = gr.Plot(show_label=False)
    with gr.Row():
        plots["confusion"] = gr.Plot(show_label=False, min_width=420)
        plots["reliability"] = gr.Plot(show_label=False, min_width=420)
    shown = [missing, metrics, *plots.values()]
    page.load(lambda: runs(list(plots)), outputs=shown, **QUIET)


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
