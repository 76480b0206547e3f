"""Pictures in the page: they follow its theme, and are readable at any width."""

from __future__ import annotations

import base64
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
    figures.GREY: "var(--body-text-color-subdued)",
    figures.BLUE: "var(--blue)",
    figures.ORANGE: "var(--orange)",
    figures.PAPER: "var(--body-background-fill)",
    figures.STYLE["xtick.color"]: "var(--body-text-color-subdued)",
    figures.STYLE["axes.edgecolor"]: "var(--border-color-primary)",
    figures.STYLE["grid.color"]: "var(--border-color-primary)",
}
SHOWN_SECONDS = 60.0  # of a spectrogram: a longer one would show no detail
READABLE = 0.87  # of a figure's size: narrower screens scroll, so that letters are not too small


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
    """The spectrogram of a file, or of its first minute, as HTML.

    Its text is HTML too, so that it is readable at any width and in any theme.

    Raises:
        PipelineError: the file has been damaged or is missing.
    """
    again = "type `dvc repro -f fetch_data`."
    if not path.exists():
        raise PipelineError(f"{path} does not exist: {again}")
    try:
        samples, rate = audio.read(path, SHOWN_SECONDS)
    except audio.AudioFault as fault:
        raise PipelineError(f"{path} has been damaged ({fault}): {again}") from None
    file = io.BytesIO()
    marks = figures.spectrogram(samples, rate, file)
    image = base64.b64encode(file.getvalue()).decode()
    seconds = len(samples) / rate
    hz = "".join(
        f'<span style="bottom:{100 * at:.1f}%">{name}</span>' for name, at in marks.items()
    )
    times = "".join(f"<span>{seconds * step / 4:.1f} s</span>" for step in range(5))
    return (
        f'<figure class="spectrogram"><div class="picture"><img alt="Spectrogram of {seconds:.1f} '
        f'seconds, 60 Hz to {rate / 2000:g} kHz" src="data:image/jpeg;base64,{image}">{hz}</div>'
        f"<figcaption>{times}</figcaption></figure>"
    )
