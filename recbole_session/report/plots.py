"""Pictures of the report, as SVG text that takes its colours of text and lines from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from recbole_session.report.curves import Curve
from recbole_session.report.table import signed

# Told apart on white and on black, and by the colour-blind (Okabe & Ito); lines differ in their dashes too.
COLOURS = ("#0f7fc4", "#d9661f", "#0a9a72", "#c56a9f", "#b08a00", "#4fa9d8", "#7d6bd0", "#c9463d", "#5f8f2f", "#8d7460")
DASHES = ("-", "--", "-.", ":")
BASELINE = "#8791a0"
_ACCENT, _WORSE = COLOURS[:2]

_INK = "#010203"  # becomes the colour of the page's text
_WIDTH = 3.7  # inches; a panel fits a phone
_LONGEST_NAME = 44  # letters that fit into it

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recbole-session",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
}


class Bar(NamedTuple):
    """A row in a picture: its value with the ends of its interval; ``verdict`` as in `cells.Versus`."""

    name: str
    value: float
    low: float
    high: float
    text: str
    is_baseline: bool = False
    verdict: str = ""


def matplotlib_is_there() -> bool:
    """Whether pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _axes(height: float, width: float = _WIDTH) -> Iterator[tuple[Any, Any]]:
    """Give a figure without display and its axes, in the report's style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def _svg(figure: Any, name: str, title: str) -> str:
    """Return the figure as an ``<svg>`` element whose ids begin with ``name``."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", text)
    # The page sizes it; the viewBox keeps its shape.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{_attribute(title)}"', 1)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _height(n_bars: int) -> float:
    return 0.55 + 0.42 * n_bars


def draw_bars(name: str, title: str, bars: Sequence[Bar]) -> str:
    """Bars from zero with intervals, names above them; solid where a row differs significantly from the baseline."""
    with _axes(_height(len(bars))) as (figure, axes):
        places = range(len(bars))
        for place, bar in zip(places, bars, strict=True):
            colour = BASELINE if bar.is_baseline else _WORSE if bar.verdict == "worse" else _ACCENT
            alpha = 0.95 if bar.is_baseline or bar.verdict else 0.45
            axes.barh(place, bar.value, height=0.34, color=colour, alpha=alpha, linewidth=0)
        _draw_intervals(axes, bars)
        for place, bar in zip(places, bars, strict=True):
            _name(axes, place, bar, 0.0)
            axes.annotate(
                bar.text,
                (max(bar.high, bar.value), place),
                xytext=(5, 0),
                textcoords="offset points",
                fontsize=9,
                va="center",
                parse_math=False,
            )
        axes.set_xlim(0, max(max(bar.high, bar.value) for bar in bars) * 1.3 or 1)
        _finish_rows(axes, len(bars))
        return _svg(figure, name, title)


def draw_differences(name: str, title: str, bars: Sequence[Bar]) -> str:
    """Differences from the baseline, a point with its interval per row, around the line of no difference."""
    with _axes(_height(len(bars)) + 0.2) as (figure, axes):
        low, high = min(0.0, *(bar.low for bar in bars)), max(0.0, *(bar.high for bar in bars))
        width = high - low or 1.0
        left, right = low - 0.04 * width, high + 0.36 * width
        axes.axvline(0, color=BASELINE, linewidth=1.4)
        for place, bar in enumerate(bars):
            colour = _ACCENT if bar.value >= 0 else _WORSE
            axes.plot([bar.low, bar.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            face = colour if bar.verdict else "none"
            axes.plot(bar.value, place, "o", markersize=6.5, color=colour, markerfacecolor=face, markeredgewidth=1.6)
            _name(axes, place, bar, left)
            axes.annotate(
                bar.text,
                (1, place),
                xycoords=("axes fraction", "data"),
                fontsize=9,
                ha="right",
                va="center",
                parse_math=False,
            )
        axes.set_xlim(left, right)
        axes.xaxis.set_major_formatter(lambda value, _: signed(value, 3))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("difference from the baseline", fontsize=9)
        _finish_rows(axes, len(bars))
        return _svg(figure, name, title)


def _draw_intervals(axes: Any, bars: Sequence[Bar]) -> None:
    for place, bar in enumerate(bars):
        axes.plot([bar.low, bar.high], [place, place], color=_INK, linewidth=1.2, alpha=0.85)
        for end in (bar.low, bar.high):
            axes.plot([end, end], [place - 0.08, place + 0.08], color=_INK, linewidth=1.2, alpha=0.85)


def _name(axes: Any, place: int, bar: Bar, left: float) -> None:
    """Write the row's name above its bar."""
    axes.annotate(
        bar.name if len(bar.name) <= _LONGEST_NAME else f"{bar.name[: _LONGEST_NAME - 1]}…",
        (left, place),
        xytext=(0, 7),
        textcoords="offset points",
        fontsize=9,
        fontstyle="italic" if bar.is_baseline else "normal",
        va="bottom",
        parse_math=False,
    )


def _finish_rows(axes: Any, n_rows: int) -> None:
    axes.set_ylim(n_rows - 0.5, -0.75)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.tick_params(axis="x", length=0, labelsize=9)


def row_style(place: int, is_baseline: bool) -> tuple[str, str]:
    """Colour and dashes of the row at ``place`` of the table."""
    if is_baseline:
        return BASELINE, "-"
    return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]


def draw_curves(
    name: str, title: str, curves: Mapping[str, Sequence[Curve]], styles: Mapping[str, tuple[str, str]], metric: str
) -> str:
    """Validation metric over epochs, a line per run; ``styles`` gives each row's colour and dashes."""
    with _axes(3.4, 5.4) as (figure, axes):
        for row, of_row in curves.items():
            colour, dash = styles[row]
            for curve in of_row:
                marker = "o" if len(curve.epochs) == 1 else None
                axes.plot(curve.epochs, curve.values, dash, marker=marker, markersize=4, color=colour, linewidth=1.3)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid()
        axes.tick_params(length=0, labelsize=9)
        return _svg(figure, name, title)


class Level(NamedTuple):
    """A row that the sweep does not touch: a horizontal line, told apart by its colour and dashes."""

    value: float
    colour: str
    dash: str


def draw_sweep(name: str, title: str, key: str, points: Sequence[tuple[float, Bar]], levels: Sequence[Level]) -> str:
    """Metric over the swept key with its interval, as Figure 2 of the paper; other rows are horizontal lines."""
    with _axes(2.9) as (figure, axes):
        at = [value for value, _ in points]
        low, high = [bar.low for _, bar in points], [bar.high for _, bar in points]
        axes.fill_between(at, low, high, color=_ACCENT, alpha=0.18, linewidth=0)
        axes.plot(at, [bar.value for _, bar in points], "o-", color=_ACCENT, linewidth=1.6, markersize=5)
        for level in levels:
            axes.axhline(level.value, color=level.colour, linewidth=1.4, linestyle=level.dash)
        axes.set_xlabel(key, parse_math=False)
        if min(at) > 0 and max(at) >= 8 * min(at):
            axes.set_xscale("log", base=2)  # such as 4, 8, 16, ...: else the small ones would run into each other
            axes.minorticks_off()
        axes.set_xticks(at, [f"{value:g}" for value in at])
        axes.margins(y=0.15)
        axes.grid(axis="y")
        axes.tick_params(length=0, labelsize=9)
        return _svg(figure, name, title)
