"""An `Explanation` as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from recbole_session.errors import printable
from recbole_session.inference.explanation import Explanation

LATEST = 30  # events that the table lists


def written_time(second: int) -> str:
    """Date and time of a Unix second, in UTC."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}"


def explanation_table(explanation: Explanation) -> str:
    """Return the explanation as text: the answers side by side, then the latest events."""
    session = "a new session" if explanation.new_session else "the session goes on"
    n_sessions = explanation.events[-1].session
    lines = [
        f"# User {explanation.user}",
        "",
        f"{len(explanation.events)} events in {n_sessions} session(s); the answer is for "
        f"{written_time(explanation.now)} UTC, {session}.",
        "",
        "## Answers",
        "",
        *_answer_lines(explanation),
        "",
        *_change_lines(explanation),
        "",
        f"## The latest {min(LATEST, len(explanation.events))} events",
        "",
        *_event_lines(explanation),
    ]
    return printable("\n".join(lines) + "\n")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows)]


def _answer_lines(explanation: Explanation) -> list[str]:
    """One column per answer."""
    answers = explanation.answers
    depth = max(map(len, answers.values()))
    rows = [
        [rank + 1, *(answer[rank] if rank < len(answer) else "" for answer in answers.values())]
        for rank in range(depth)
    ]
    moments = explanation.moments
    header = [name if name not in moments else f"{name} ({written_time(moments[name])})" for name in answers]
    return _markdown(["rank", *header], rows)


def _change_lines(explanation: Explanation) -> list[str]:
    """A sentence per feature: which items it brings in, and how many of the others it moves."""
    answer = explanation.answers["answer"]
    lines = []
    for name, other in explanation.answers.items():
        if name.startswith("without "):
            gained = [item for item in answer if item not in other]
            moved = sum(item in other and answer.index(item) != other.index(item) for item in answer)
            brings = f"brings in {', '.join(gained)}" if gained else "brings in no item"
            others = len(answer) - len(gained)
            lines.append(f"- {name.removeprefix('without ')} {brings}, and moves {moved} of the other {others}.")
    return lines or ["The model has no session features to take away."]


def _event_lines(explanation: Explanation) -> list[str]:
    rows = [
        (
            written_time(event.time),
            event.session,
            event.item,
            "" if event.attention is None else f"{event.attention:.4f}",
        )
        for event in explanation.events[-LATEST:]
    ]
    lines = _markdown(["time (UTC)", "session", "item", "attention"], rows)
    if explanation.events[-1].attention is None:
        return lines
    note = f"Session tokens and the predicted position itself take {explanation.other_attention:.4f} of the attention."
    return [*lines, "", note]
