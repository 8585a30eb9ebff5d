"""An `Explanation` as a picture: the timeline with its sessions and the attention, and the answers below."""

from pathlib import Path
from typing import Any

from recbole_session.errors import needs
from recbole_session.inference.explanation import Explanation, written_time
from recbole_session.report.tables import printable

SHOWN = 40  # latest events drawn; more would not be readable
LONGEST = 22  # letters of a name


def draw_explanation(explanation: Explanation, path: Path) -> None:
    """Write a PNG; an `InputError` if matplotlib is missing."""
    with needs("the picture of explain", "matplotlib", "plot"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(13, 9), layout="constrained")
    timeline, answers = figure.subplots(2, 1, height_ratios=(2, 3))
    _draw_timeline(timeline, explanation)
    _draw_answers(answers, explanation)
    figure.savefig(path, format="png", dpi=120)


def _draw_timeline(axes: Any, explanation: Explanation) -> None:
    """A bar per event, as high as its attention; a band per session."""
    events = explanation.events[-SHOWN:]
    has_attention = any(event.attention is not None for event in events)
    heights = [event.attention or 0.0 for event in events] if has_attention else [1.0] * len(events)
    axes.bar(range(len(events)), heights, width=0.7, color="#1f5fa8" if has_attention else "#9aa7b5", zorder=3)
    ceiling = max([*heights, 1e-9]) * 1.35
    starts = [place for place, event in enumerate(events) if place == 0 or event.session != events[place - 1].session]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(events)], strict=True)):
        axes.axvspan(start - 0.5, end - 0.5, color="#e8eef5" if number % 2 else "#f8f1e4", zorder=0)
        roomy = end - start >= 0.11 * len(events)  # else the dates would run into each other
        text = f"session {events[start].session}\n{written_time(events[start].time)[:16]}"
        axes.text(start - 0.4, ceiling * 0.98, text if roomy else events[start].session, va="top", fontsize=8)
    unread = sum(event.attention is None for event in events)
    if has_attention and unread:
        rotation = 0 if unread >= 0.2 * len(events) else 90  # else the words would run into the bars
        text = "older than what the model reads"
        axes.text((unread - 1) / 2, ceiling * 0.03, text, ha="center", rotation=rotation, fontsize=8)
    opens = "new session" if explanation.new_session else "session continues"
    axes.axvline(len(events) - 0.5, color="#b03a2e", zorder=4)
    now = f"now\n{written_time(explanation.now)[:16]}\n{opens}"
    axes.text(len(events) - 0.4, ceiling * 0.5, now, fontsize=8, color="#b03a2e")
    axes.set_xlim(-0.5, len(events) + max(2.0, 0.1 * len(events)))
    axes.set_ylim(0, ceiling)
    axes.set_xticks(range(len(events)), [_label(explanation, event.item) for event in events], rotation=90, fontsize=8)
    of = f"; the latest {SHOWN} of {len(explanation.events)}" if len(explanation.events) > SHOWN else ""
    axes.set_xlabel(f"item, oldest first{of}")
    axes.set_ylabel("attention of the last layer" if has_attention else "")
    if not has_attention:
        axes.set_yticks([])
    title = f"User {_plain(explanation.user)}: history, sessions" + (" and attention" if has_attention else "")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_answers(axes: Any, explanation: Explanation) -> None:
    """A column per answer; an item keeps the colour of its rank in the first one, and newcomers are white."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    answers, moments = explanation.answers, explanation.moments
    first, shades = answers["answer"], colormaps["YlGnBu"]
    depth = max(map(len, answers.values()))
    for column, items in enumerate(answers.values()):
        for rank, item in enumerate(items):
            share = 0.85 - 0.75 * first.index(item) / max(len(first) - 1, 1) if item in first else 0.0
            colour = shades(share) if share else "white"
            axes.add_patch(Rectangle((column - 0.46, rank - 0.46), 0.92, 0.92, facecolor=colour, edgecolor="#888888"))
            ink = "white" if share > 0.5 else "black"
            axes.text(column, rank, _label(explanation, item), ha="center", va="center", fontsize=9, color=ink)
    labels = [name if name not in moments else f"{name}\n{written_time(moments[name])[:16]}" for name in answers]
    axes.axvline(len(answers) - 2.5, color="#b03a2e", linewidth=1)
    axes.set_xticks(range(len(answers)), labels)
    axes.xaxis.tick_top()
    axes.set_yticks(range(depth), [str(rank + 1) for rank in range(depth)])
    axes.set_ylabel("rank")
    axes.set_xlim(-0.6, len(answers) - 0.4)
    axes.set_ylim(depth - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.set_xlabel("an item keeps the colour of its rank in the first column; white: not among them")
    axes.spines[:].set_visible(False)


def _label(explanation: Explanation, item: str) -> str:
    """Name of an item, or its raw id, cut where it is long."""
    text = explanation.titles.get(item, item)
    return _plain(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def _plain(text: str) -> str:
    """Text that matplotlib shows as it is: a pair of dollar signs would enclose a formula."""
    return printable(text).replace("$", r"\$")
