"""Pictures in the page, as SVG: they follow its theme, and stay sharp at any width."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

from matplotlib.figure import Figure

from genrepro import audio
from genrepro.core.errors import PipelineError
from tools import figures

# Colours of figures.STYLE -> what takes their place on a page, light or dark.
COLOURS = {
    figures.INK: "var(--body-text-color)",
    figures.PAPER: "var(--body-background-fill)",
    figures.STYLE["xtick.color"]: "var(--body-text-color-subdued)",
    figures.STYLE["axes.edgecolor"]: "var(--border-color-primary)",
    figures.STYLE["grid.color"]: "var(--border-color-primary)",
}
SHOWN_SECONDS = 60.0  # of a sound: a longer one would show no detail
READABLE = 0.72  # of a figure's size: narrower screens scroll, so that letters are not too small


def svg(figure: Figure, title: str) -> str:
    """A figure as HTML.

    Args:
        title: what the picture shows, for those who do not see it.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    _, _, text = file.getvalue().partition("<svg ")
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    for colour, variable in COLOURS.items():
        body = body.replace(str(colour), variable)
    width = 72 * figure.get_figwidth()  # in the units of the viewBox
    style = f"width: 100%; max-width: {1.4 * width:.0f}px; min-width: {READABLE * width:.0f}px; "
    style += "stroke-linejoin: round; stroke-linecap: butt; display: block"
    return (
        f'<div style="overflow-x: auto"><svg {box[0] if box else ""} role="img" '
        f'aria-label="{html.escape(title)}" style="{style}">{body}</div>'
    )


def plain(text: str) -> str:
    """A text that Markdown shows as it is, whatever a label or a file is called."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", text)


def spectrogram(path: Path) -> str:
    """The waveform and the spectrogram of a clip, or of its first minute.

    Raises:
        PipelineError: the file has been damaged or is missing.
    """
    try:
        samples, rate = audio.read(path, SHOWN_SECONDS)
    except (audio.AudioFault, FileNotFoundError) as fault:
        what = "is missing" if isinstance(fault, OSError) else f"has been damaged ({fault})"
        raise PipelineError(f"{path} {what}: type `dvc repro -f fetch_data`.") from None
    return svg(figures.sound(samples, rate), f"Waveform and spectrogram of {path.name}")
