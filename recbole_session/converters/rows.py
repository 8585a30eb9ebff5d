"""What readers hand on: blocks of lines, rows cut from them, and the lines that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_session.errors import InputError

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 16 << 20
MAX_TIME = 4_102_444_800  # 2100-01-01, seconds; later "seconds" are most likely milliseconds
TOLERATED = 0.001  # share of malformed lines that passes without --skip_bad
REPORTED = 10  # malformed lines that are told one by one


class Block(NamedTuple):
    """Whole lines of a file: ``data`` ends with a line feed, ``first_line`` counts from 1."""

    data: bytes
    first_line: int


class BadLine(NamedTuple):
    """A line that could not be read, and why."""

    line: int
    reason: str


class Rows(NamedTuple):
    """Interactions in file order, columns of one length.

    ``users`` and ``items`` are int64 or object arrays of str, ``ratings`` float64, ``times`` int64
    seconds (Unix, UTC), ``lines`` int64 line numbers.
    """

    users: NDArray[Any]
    items: NDArray[Any]
    ratings: NDArray[np.float64]
    times: NDArray[np.int64]
    lines: NDArray[np.int64]

    def keep(self, mask: NDArray[np.bool_]) -> Rows:
        """Return the rows where ``mask`` [N] is True."""
        if mask.all():
            return self
        return Rows(self.users[mask], self.items[mask], self.ratings[mask], self.times[mask], self.lines[mask])


Parser = Callable[[Block], tuple[Rows, list[BadLine]]]


def read_blocks(stream: BinaryIO, name: str, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Cut a byte stream into blocks of whole lines, line ends turned into single line feeds.

    Raises
    ------
    InputError
        If the file is empty, UTF-16, or holds a line of more than 16 MB.
    """
    rest, line = b"", 1
    while chunk := stream.read(block_bytes):
        if line == 1 and not rest:
            chunk = _without_byte_order_mark(chunk, name)
        end = chunk.rfind(b"\n") + 1
        if end:
            data = rest + chunk[:end]
            if b"\r" in data:  # looking for one byte is cheaper than for two
                data = data.replace(b"\r\n", b"\n")
            yield Block(data, line)
            line += data.count(b"\n")
            rest = chunk[end:]
        else:
            rest += chunk
        if len(rest) > MAX_LINE_BYTES:
            raise InputError(f"{name} line {line} is longer than {MAX_LINE_BYTES >> 20} MB: this is no file of lines.")
    if rest:
        yield Block(rest.removesuffix(b"\r") + b"\n", line)
    elif line == 1:
        raise InputError(f"{name} is empty: give the file as it was published.")


def _without_byte_order_mark(chunk: bytes, name: str) -> bytes:
    if chunk[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{name} is UTF-16 text, but must be UTF-8: save it again as UTF-8.")
    return chunk.removeprefix(b"\xef\xbb\xbf")


def shown(text: bytes | str, width: int = 60) -> str:
    """Return text fit for an error message: decoded, quoted, on one line, cut short."""
    if isinstance(text, bytes):
        text = text[: 4 * width].decode("utf-8", "backslashreplace")
    cut = text if len(text) <= width else text[:width] + "..."
    plain = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return f"'{''.join(plain)}'"


@dataclass
class LineCheck:
    """Counts malformed lines and decides when there are too many.

    ``policy`` is ``"tolerant"`` (stop above 0.1%), ``"strict"`` (stop at the first) or ``"skip"``.
    """

    name: str
    policy: str = "tolerant"
    good: int = 0
    bad: int = 0
    first: list[BadLine] = field(default_factory=list)

    def add(self, rows: Rows, bad: list[BadLine]) -> Rows:
        """Count one block and return its rows with a believable time.

        Raises
        ------
        InputError
            Under ``strict`` at the first malformed line; else if the file's first block has no good line.
        """
        believable = (rows.times >= 0) & (rows.times <= MAX_TIME)
        if not believable.all():
            wrong = rows.keep(~believable)
            pairs = zip(wrong.lines.tolist(), wrong.times.tolist(), strict=True)
            bad = sorted(bad + [BadLine(line, _time_reason(time)) for line, time in pairs])
            rows = rows.keep(believable)
        first_block = not self.good and not self.bad
        self.good += len(rows.lines)
        self.bad += len(bad)
        self.first += bad[: REPORTED - len(self.first)]
        if bad and self.policy == "strict":
            raise InputError(f"{self.name} line {bad[0].line}: {bad[0].reason}; mend it, or leave --strict out.")
        if bad and first_block and not self.good and self.policy != "skip":
            raise InputError(
                f"{self.name} line {bad[0].line}: {bad[0].reason}; no line near it reads either, "
                "so this is not the file that was expected."
            )
        return rows

    def finish(self) -> None:
        """Raise InputError if more than 0.1% of all lines were malformed, or there was no line at all."""
        total = self.good + self.bad
        if not total:
            raise InputError(f"{self.name} holds no rows: give the file as it was published.")
        if self.policy != "skip" and self.bad > TOLERATED * total:
            line, reason = self.first[0]
            raise InputError(
                f"{self.name}: {self.bad:,} of {total:,} lines are malformed, more than {TOLERATED:.1%} "
                f"(the first is line {line}: {reason}); mend them, or go on without them by --skip_bad."
            )


def _time_reason(time: int) -> str:
    if time < 0:
        return f"timestamp {time} is negative"
    return f"timestamp {time} is after the year 2100 if it is seconds"
