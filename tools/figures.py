"""Draw a run's results and single sounds with matplotlib; equal numbers give equal bytes.

Figures are created without pyplot, which has global state and is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.lib.stride_tricks import sliding_window_view

BLUE, ORANGE, GREY, INK = "#2f6db3", "#d9772b", "#9aa3ad", "#22272e"
PAPER = "#fefefe"  # between cells: the app replaces it, and INK, by the colours of its theme
SHADES = LinearSegmentedColormap.from_list("shades", [f"{BLUE}0a", BLUE])  # on any background
CHANGE = LinearSegmentedColormap.from_list(
    "change", [(0, f"{ORANGE}a6"), (0.5, f"{ORANGE}00"), (0.5, f"{BLUE}00"), (1, f"{BLUE}a6")]
)
DOTS_PER_INCH = 130
STYLE = {
    "font.family": "DejaVu Sans",  # included in matplotlib: the same picture on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": "#c9ced4",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": "#59636e",
    "ytick.color": "#59636e",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#eceff2",
    "axes.axisbelow": True,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text, in the font of the page
    "text.parse_math": False,  # a label may contain dollar signs
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
}
COLUMNS = 900  # of a spectrogram: more than a page shows
BINS = 15  # of confidence, as in metrics/plots/reliability.csv
BANDS = 200  # of a spectrogram, from 60 Hz up


def use_style() -> None:
    """Set this process's matplotlib style; a program that draws calls it once, at its start.

    Not a context manager: rc_context is not thread-safe, and ticks are created after it ends.
    """
    rcParams.update(STYLE)


def save(figure: Figure, path: Path | BinaryIO, about: dict[str, str] | None = None) -> None:
    """Write a PNG without date and version; `about` goes into its metadata."""
    metadata = {"Software": None} | (about or {})
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH, metadata=metadata)


def curves(frame: pd.DataFrame) -> Figure:
    """Losses, and validation accuracy, by epoch or by a probe's penalty; what was kept is marked.

    Args:
        frame: as results.curves().
    """
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot("value", "training_loss", "o-", data=frame, color=GREY, label="training")
    loss.plot("value", "validation_loss", "o-", data=frame, color=BLUE, label="validation")
    loss.set(title="Loss", ylim=(0, None))
    loss.legend()
    accuracy.plot("value", "accuracy", "o-", data=frame, color=BLUE)
    accuracy.set(title="Validation accuracy", ylim=(0, 1.02))
    by = frame["by"].iloc[0]
    for axes in (loss, accuracy):
        axes.set_xlabel("L2 penalty" if by == "penalty" else by)
        if by == "penalty":
            axes.set_xscale("log")
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
    kept = frame[frame["kept"] == 1].iloc[0]
    for axes, column in ((loss, "validation_loss"), (accuracy, "accuracy")):
        axes.plot(kept["value"], kept[column], "o", color=ORANGE, markersize=9)
    note = f"kept: {by} {kept['value']:.3g}, {kept['accuracy']:.3f}"
    accuracy.text(0.98, 0.05, note, color=ORANGE, ha="right", transform=accuracy.transAxes)
    return figure


def corpus(clips: dict[str, int], skipped: dict[str, int], seconds: Sequence[float]) -> Figure:
    """How many clips each label has, and how long they are.

    Args:
        clips: label -> clips; labels that lost all of them have 0.
        skipped: label -> files that cannot be used.
        seconds: the length of each clip.
    """
    labels = sorted(clips, key=lambda label: (clips[label], label))
    height = max(2.6, 1.2 + 0.26 * len(labels))
    figure = Figure(figsize=(9.6, min(24.0, height)), layout="constrained")
    counts, lengths = figure.subplots(1, 2)
    used = [clips[label] for label in labels]
    counts.barh(range(len(labels)), used, color=BLUE, label="clips")
    if any(skipped.values()):
        lost = [skipped.get(label, 0) for label in labels]
        counts.barh(range(len(labels)), lost, left=used, color=ORANGE, label="skipped files")
        counts.legend()
    counts.set_yticks(range(len(labels)), labels)
    counts.set(title="Clips by label", xlabel="files")
    counts.grid(axis="y", visible=False)
    lengths.hist(seconds, bins=40, color=BLUE)
    lengths.set(title="Lengths", xlabel="seconds", ylabel="clips")
    for axis in (counts.xaxis, lengths.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return figure


def confusion(
    true: Sequence[str], predicted: Sequence[str], title: str = "Confusion on the test clips"
) -> Figure:
    """Counts by true label (rows) and predicted label (columns), shaded by share of the row."""
    labels = sorted({*true, *predicted})
    table = _counts(labels, true, predicted)
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    figure, axes = _matrix(labels, shares, title)
    if len(labels) <= 30:
        for row, column in zip(*table.nonzero()):
            colour = "white" if shares[row, column] > 0.8 else INK
            count = table[row, column]
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=9)
    return figure


def confusion_change(
    true: Sequence[str], before: Sequence[str], after: Sequence[str], title: str
) -> Figure:
    """How the confusion matrices of two runs differ: blue for more clips, orange for fewer."""
    labels = sorted({*true, *before, *after})
    change = _counts(labels, true, after) - _counts(labels, true, before)
    figure, axes = _matrix(labels, change / max(1, np.abs(change).max()), title, (-1, CHANGE))
    if len(labels) <= 30:
        for row, column in zip(*change.nonzero()):
            count = f"{change[row, column]:+d}".replace("-", "−")
            axes.text(column, row, count, ha="center", va="center", fontsize=9)
    return figure


def _counts(labels: list[str], true: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    both = pd.Categorical(true, labels), pd.Categorical(predicted, labels)
    return pd.crosstab(*both, dropna=False).to_numpy()


def _matrix(
    labels: list[str],
    shades: np.ndarray,
    title: str,
    scale: tuple[float, LinearSegmentedColormap] = (0, SHADES),
) -> tuple[Figure, Axes]:
    """(labels, labels) cells; `scale` is the lowest shade, and the colours from there to 1."""
    side = min(14.0, 2.2 + 0.36 * len(labels))
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shades, cmap=scale[1], vmin=scale[0], vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(title=title, xlabel="predicted as", ylabel="true label")
    axes.grid(False)
    _white_gaps(axes, len(labels))
    return figure, axes


def _white_gaps(axes: Axes, count: int) -> None:
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=PAPER, linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def reliability(frame: pd.DataFrame) -> Figure:
    """Accuracy by the model's confidence, with intervals; below, the clips of each bin.

    Args:
        frame: as results.reliability().
    """
    figure = Figure(figsize=(4.8, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 4)))
    for name, colour, line in (("as trained", BLUE, -0.06), ("after temperature", ORANGE, -0.12)):
        rows = frame[frame["probabilities"] == name]
        axes.vlines(rows["confidence"], rows["low"], rows["high"], colour, linewidth=3, alpha=0.3)
        axes.plot(rows["confidence"], rows["accuracy"], "o", color=colour, label=name)
        for confidence, clips in zip(rows["confidence"], rows["clips"]):
            middle = (np.ceil(confidence * BINS) - 0.5) / BINS
            axes.text(middle, line, clips, color=colour, ha="center", va="center", fontsize=7)
    axes.text(0, -0.09, "clips", color=GREY, va="center", fontsize=8)
    axes.set(
        title="Reliability on the test clips",
        xlabel="confidence",
        ylabel="share of correct predictions",
        xlim=(0, 1.02),
        ylim=(-0.17, 1.03),
        yticks=np.linspace(0, 1, 6),
        aspect="equal",
    )
    axes.legend(loc="upper left")
    return figure


def recall(labels: dict[str, dict]) -> Figure:
    """Share of each label's test clips that were predicted correctly, with its interval.

    Args:
        labels: as results.per_label().
    """
    known = {name: each for name, each in labels.items() if each["recall"] is not None}
    ranked = sorted(known, key=lambda name: (known[name]["recall"], name))
    figure = Figure(figsize=(5.6, max(1.8, 1.1 + 0.33 * len(ranked))), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(ranked):
        interval, value = known[name]["recall_interval"], known[name]["recall"]
        axes.plot([interval["low"], interval["high"]], [row, row], color="#b9cfe6", linewidth=5)
        axes.plot(value, row, "o", color=BLUE, markersize=8)
        clips = known[name]["clips"]
        axes.text(1.06, row, f"{round(value * clips)} of {clips}", va="center", fontsize=9)
    axes.set_yticks(range(len(ranked)), ranked)
    axes.set(title="Recall by label, with intervals", xlim=(0, 1.02), xlabel="recall")
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    axes.grid(axis="y", visible=False)
    return figure


def robustness(found: dict) -> Figure:
    """Accuracy on each kind of degraded test clips, with its interval, against the clean ones.

    Args:
        found: as results.robustness().
    """
    kinds = {"clean": found["clean"]} | found["degraded"]
    figure = Figure(figsize=(6.8, 1.1 + 0.33 * len(kinds)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(found["clean"]["accuracy"], color=GREY, linewidth=1, linestyle=(0, (4, 4)))
    for row, each in enumerate(kinds.values()):
        if each["interval"]["low"] is not None:
            axes.plot(list(each["interval"].values()), [row, row], color="#b9cfe6", linewidth=5)
        colour = ORANGE if each.get("worse") else BLUE
        axes.plot(each["accuracy"], row, "o", color=colour, markersize=8)
        if "difference" in each:
            points = f"{100 * each['difference']:+.1f} points"
            axes.text(1.06, row, points, va="center", fontsize=9, color=colour)
    axes.set_yticks(range(len(kinds)), list(kinds))
    axes.set(title="Accuracy on degraded test clips, with intervals", xlim=(0, 1.02))
    axes.set(xlabel="accuracy (orange: clearly worse than clean)")
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    return figure


def over_time(
    labels: Sequence[str], spans: np.ndarray, probabilities: np.ndarray, silent: np.ndarray
) -> Figure:
    """Probabilities over time, the most probable labels on top.

    Args:
        labels: names.
        spans: (segments, 2), start and end in seconds.
        probabilities: (segments, labels).
        silent: (segments,), true where there was nothing to classify.
    """
    order = np.argsort(-probabilities[~silent].mean(axis=0), kind="stable")[:10]
    figure = Figure(figsize=(9.6, 1.3 + 0.24 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.set_title("Prediction over time")
    edges = np.append(spans[:, 0], spans[-1, 1])  # where segments overlap, the later one is shown
    shown = np.ma.array(probabilities[:, order].T, mask=np.tile(silent, (len(order), 1)))
    mesh = axes.pcolormesh(
        edges, np.arange(len(order) + 1), shown, cmap=SHADES, vmin=0, vmax=1, rasterized=True
    )
    for start, end in _runs(silent, edges):
        axes.axvspan(start, end, color=GREY, alpha=0.3, linewidth=0)
        middle = len(order) / 2
        axes.text((start + end) / 2, middle, "silence", rotation=90, ha="center", va="center")
    axes.set_yticks(np.arange(len(order)) + 0.5, [labels[index] for index in order])
    axes.invert_yaxis()
    axes.grid(False)
    _time_axis(axes, edges[-1])
    figure.colorbar(mesh, label="probability", pad=0.01)
    return figure


def _runs(marked: np.ndarray, edges: np.ndarray) -> list[tuple[float, float]]:
    """Start and end of each run of marked intervals between `edges`."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(int)))
    return [(edges[start], edges[end]) for start, end in changes.reshape(-1, 2)]


def spectrogram(samples: np.ndarray, sample_rate: int, file: BinaryIO) -> dict[str, float]:
    """Write a spectrogram as a JPEG without axes; return the marks of its frequency axis.

    Args:
        samples: (samples,) float32, full scale 1.0.
        sample_rate: in Hz.

    Returns:
        Frequency, as text -> height in the picture, from 0 to 1.
    """
    power, bands = _spectrogram(samples, sample_rate)
    low, high = np.log(bands[[0, -1]])
    imsave(file, power, cmap="magma", vmin=power.max() - 80, origin="lower", format="jpeg")
    marks = [hz for hz in (100, 300, 1000, 3000, 10000) if hz < sample_rate / 2]
    names = [f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz} Hz" for hz in marks]
    return {name: (np.log(hz) - low) / (high - low) for name, hz in zip(names, marks)}


def _spectrogram(samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Power in dB, (bands, frames), and the bands' frequencies in Hz, log-spaced."""
    size = min(len(samples), 1 << round(np.log2(0.064 * sample_rate)))
    hop = max(1, size // 8, (len(samples) - size) // COLUMNS)
    frames = sliding_window_view(samples, size)[::hop] * np.hanning(size).astype(np.float32)
    bands = np.geomspace(60, sample_rate / 2, BANDS)
    bins = np.round(bands * size / sample_rate).astype(int).clip(1, size // 2)
    power = np.abs(np.fft.rfft(frames, axis=1).T[bins]) ** 2
    return 10 * np.log10(power + 1e-12), bands


def _time_axis(axes: Axes, seconds: float) -> None:
    """Label the axis in seconds, or in minutes and seconds for a long file."""
    if seconds < 120:
        axes.set_xlabel("seconds")
    else:
        axes.xaxis.set_major_formatter(lambda x, _: f"{int(x) // 60}:{int(x) % 60:02d}")
        axes.set_xlabel("minutes")
    axes.set_xlim(0, seconds)
