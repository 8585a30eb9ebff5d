"""Malformed lines: how many there may be, and how they are named."""

import glob
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from recbole_session.errors import InputError

MAX_LINE_BYTES = 16 << 20
MAX_TIME = 4_102_444_800  # 2100-01-01, seconds; later "seconds" are most likely milliseconds
TOLERATED = 0.001  # share of malformed lines that passes without --skip_bad
REPORTED = 10  # malformed lines that are named one by one


class BadLine(NamedTuple):
    """A line that could not be read, and why."""

    line: int
    reason: str


def shown(text: bytes | str, width: int = 60) -> str:
    """Return text fit for an error message: decoded, quoted, on one line, cut short."""
    if isinstance(text, bytes):
        text = text[: 4 * width].decode("utf-8", "backslashreplace")
    cut = text if len(text) <= width else text[:width] + "..."
    plain = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return f"'{''.join(plain)}'"


def time_fault(seconds: float) -> str | None:
    """Return why a time is not believable, or None if it is."""
    if seconds < 0:
        return f"timestamp {seconds:.0f} is negative"
    return f"timestamp {seconds:.0f} is after the year 2100 if it is seconds" if seconds > MAX_TIME else None


@dataclass
class LineCheck:
    """Counts malformed lines and decides when there are too many.

    ``policy`` is ``"tolerant"`` (stop above 0.1%), ``"strict"`` (stop at the first) or ``"skip"``.
    """

    name: str
    policy: str = "tolerant"
    where: str | None = None  # the condition that leaves rows out
    good: int = 0
    bad: int = 0
    first: list[BadLine] = field(default_factory=list)

    def add(self, good: int, bad: int, first: list[BadLine]) -> None:
        """Count lines; ``first`` are the first of the malformed ones.

        An `InputError` under ``strict`` at the first malformed line, else if no line is good up to here.
        """
        self.good, self.bad = self.good + good, self.bad + bad
        self.first += first[: REPORTED - len(self.first)]
        if not self.first or self.policy == "skip":
            return
        line, reason = self.first[0]
        if self.policy == "strict":
            raise InputError(f"{self.name} line {line}: {reason}; correct it, or leave out --strict.")
        if not self.good:
            raise InputError(
                f"{self.name} line {line}: {reason}; no line near it reads either, so this is not the expected file."
            )

    def finish(self) -> None:
        """Raise InputError if more than 0.1% of all lines are malformed, or if there is no line at all."""
        total = self.good + self.bad
        if not total:
            if self.where is not None:
                raise InputError(f"{self.name} has no row for which --where {self.where!r} is true; change it.")
            raise InputError(f"{self.name} holds no rows: give the file as it was published.")
        if self.policy != "skip" and self.bad > TOLERATED * total:
            first = f" (the first is line {self.first[0].line}: {self.first[0].reason})" if self.first else ""
            raise InputError(
                f"{self.name}: {self.bad:,} of {total:,} lines are malformed, more than {TOLERATED:.1%}{first}; "
                "correct them, or leave them out with --skip_bad."
            )


def sql_text(text: str) -> str:
    """Return text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def sql_path(path: Path) -> str:
    """Return a path as a SQL literal that names this one file, whatever characters it holds."""
    return sql_text(glob.escape(str(path)))


def sql_name(name: str) -> str:
    """Return a column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def read_csv_sql(path: Path, fields: list[str], skip: int, delimiter: str, quote: str) -> str:
    """Return the table of a CSV file's ``fields``, as text; DuckDB notes the lines that it leaves out."""
    columns = ", ".join(f"{sql_text(field)}: 'VARCHAR'" for field in fields)
    return (
        f"read_csv({sql_path(path)}, columns={{{columns}}}, auto_detect=false, header=false, skip={skip}, "
        f"delim={sql_text(delimiter)}, quote={sql_text(quote)}, escape={sql_text(quote)}, strict_mode={bool(quote)}, "
        f"store_rejects=true, max_line_size={MAX_LINE_BYTES}, buffer_size={2 * MAX_LINE_BYTES})"
    )


def lines_sql(path: Path, skip: int = 0) -> str:
    """Return the table of a file's lines, one ``text`` each, blank lines as NULL."""
    # A delimiter that no text holds, and no quotes: a line is one field.
    return read_csv_sql(path, ["text"], skip, "\x01\x02\x03\x04", "")


def line_faults(
    path: Path, skip: int, rows: list[int], rejected: list[int], reason: Callable[[bytes], str]
) -> list[BadLine]:
    """Name the malformed among a file's lines, of which ``skip`` come before the first row.

    ``rows`` are the positions of malformed rows in DuckDB's table, from 0. The table lacks the ``rejected`` lines: the
    numbers, ascending, of the first that are not UTF-8, or too long.
    """
    numbers = set(rejected)
    for row in rows:
        number = row + 1 + skip
        for before in rejected:
            number += before <= number
        numbers.add(number)
    wanted = sorted(numbers)[:REPORTED]
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
        lines = enumerate(islice(stream, max(wanted, default=0)), start=1)
        return [
            BadLine(number, reason(line.rstrip("\n").encode("utf-8", "surrogateescape")))
            for number, line in lines
            if number in numbers
        ]
