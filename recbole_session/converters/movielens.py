"""MovieLens ratings in all their shapes: four numbers a line, one separator, digits parsed by numpy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.rows import BadLine, Block, LineCheck, Rows, read_blocks, shown
from recbole_session.converters.sources import Source, open_source
from recbole_session.errors import InputError

FIELDS = ("user", "item", "rating", "timestamp")
# The grammar of each field; the digits are bounded so that int64 and float64 hold every value exactly.
GRAMMAR = (rb"\d{1,18}", rb"\d{1,18}", rb"\d{1,8}(?:\.\d{0,7})?", rb"\d{1,18}")
_COMMA, _LF, _DOT, _ZERO, _NINE = b",\n.09"


@dataclass(frozen=True)
class Layout:
    """How a MovieLens release writes its ratings: the separator and the header lines it may have."""

    delimiter: bytes
    headers: tuple[bytes, ...] = ()
    header_required: bool = False


def read_movielens(source: Source, layout: Layout, check: LineCheck) -> Iterator[Rows]:
    """Read a ratings file block by block; ``check`` sees every malformed line."""
    with open_source(source) as stream:
        for block in read_blocks(stream, source.name):
            if block.first_line == 1:
                block = parse_first(block, layout, source.name, check.policy == "skip")
            yield check.add(*parse_block(block, layout))
    check.finish()


def parse_first(block: Block, layout: Layout, name: str, skip_bad: bool) -> Block:
    """Check a file's first line and return the block without its header.

    Raises
    ------
    InputError
        If the line has another separator, another number of fields, a header where none belongs or
        none where one does. With ``skip_bad`` a foreign header is left to be counted as a bad line.
    """
    first, _, rest = block.data.partition(b"\n")
    if first.strip() in layout.headers:
        return Block(rest, block.first_line + 1)
    found = f"{name} line 1 is {shown(first)}"
    fields = first.split(layout.delimiter)
    separator = layout.delimiter.decode().replace("\t", "tab")
    if layout.header_required:
        raise InputError(f"{found}, but must be the header {layout.headers[0].decode()!r}: is this the file?")
    if len(fields) != len(FIELDS):
        if skip_bad and len(fields) > 1:
            return block
        raise InputError(
            f"{found}, but must have {len(FIELDS)} fields ({', '.join(FIELDS)}) separated by {separator!r}: "
            "is this the ratings file of this dataset?"
        )
    if not any(re.search(rb"\d", field) for field in fields) and not skip_bad:
        raise InputError(f"{found}, a header, but this dataset's file has none: remove that line.")
    return block


def parse_block(block: Block, layout: Layout) -> tuple[Rows, list[BadLine]]:
    """Parse lines of four numbers.

    Returns
    -------
    rows
        int64 users and items, float64 ratings, int64 times (seconds).
    bad
        The lines outside the grammar. Blank lines are neither rows nor bad.
    """
    data = block.data
    parsed = _parse_numbers(
        data.replace(b"::", b",") if layout.delimiter == b"::" else data.replace(layout.delimiter, b",")
    )
    foreign = layout.delimiter != b"," and b"," in data
    if parsed is not None and not foreign:
        lines = np.arange(block.first_line, block.first_line + len(parsed[0]), dtype=np.int64)
        return Rows(*parsed, lines), []
    return _parse_around_bad_lines(block, layout)


def _parse_around_bad_lines(block: Block, layout: Layout) -> tuple[Rows, list[BadLine]]:
    whole = re.compile(re.escape(layout.delimiter).join(GRAMMAR))
    good, lines, bad = [], [], []
    for number, line in enumerate(block.data.split(b"\n")[:-1], start=block.first_line):
        if whole.fullmatch(line):
            good.append(line.replace(layout.delimiter, b","))
            lines.append(number)
        elif line.strip():
            bad.append(BadLine(number, _reason(line, layout)))
    parsed = _parse_numbers(b"".join(line + b"\n" for line in good))
    if parsed is None:  # the two grammars are one; a test holds them together
        raise AssertionError("a line passed the pattern but not the digit parser")
    return Rows(*parsed, np.array(lines, dtype=np.int64)), bad


def _reason(line: bytes, layout: Layout) -> str:
    fields = line.split(layout.delimiter)
    if len(fields) != len(FIELDS):
        return f"found {len(fields)} fields, expected {len(FIELDS)}, in {shown(line)}"
    for name, grammar, field in zip(FIELDS, GRAMMAR, fields, strict=True):
        if not re.fullmatch(grammar, field):
            kind = "non-negative number" if name == "rating" else "non-negative whole number"
            return f"{name} {shown(field)} is not a {kind}"
    return f"unreadable: {shown(line)}"


Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def _parse_numbers(data: bytes) -> Columns | None:
    """Parse ``user,item,rating,time`` lines, or return None if any line is outside the grammar."""
    text = np.frombuffer(data, dtype=np.uint8)
    marks = np.flatnonzero((text < _ZERO) | (text > _NINE))  # every byte that is no digit
    kinds = text[marks]
    dots = kinds == _DOT
    ends = marks[~dots]
    if len(ends) % 4 or not _all_lines_read(kinds[~dots]):
        return None
    n_rows = len(ends) // 4
    starts = np.concatenate(([0], ends + 1))[:-1].reshape(n_rows, 4)
    ends = ends.reshape(n_rows, 4)
    # Where the rating's whole part ends: at its dot, or where the field ends.
    owner = np.cumsum(~dots)[dots]  # how many fields are closed before each dot
    if len(owner) and (np.any(owner % 4 != 2) or np.any(np.diff(owner) == 0)):
        return None
    whole_ends = ends[:, 2].copy()
    whole_ends[owner // 4] = marks[dots]
    fraction_widths = np.maximum(ends[:, 2] - whole_ends - 1, 0)
    widths = ends - starts
    widths[:, 2] = whole_ends - starts[:, 2]
    limits = np.array([18, 18, 8, 18])
    if n_rows and (widths.min() < 1 or np.any(widths.max(axis=0) > limits) or fraction_widths.max() > 7):
        return None
    users, items, wholes, times = (_digits(text, starts[:, k] + widths[:, k], widths[:, k]) for k in range(4))
    # Both operands are exact (below 2**53), so the one division rounds as float("3.5") would.
    scale = 10**fraction_widths
    ratings = (wholes * scale + _digits(text, ends[:, 2], fraction_widths)) / scale
    return users, items, ratings, times


def _all_lines_read(kinds: NDArray[np.uint8]) -> bool:
    expected = np.array([_COMMA, _COMMA, _COMMA, _LF], dtype=np.uint8)
    return bool((kinds.reshape(-1, 4) == expected).all())


def _digits(text: NDArray[np.uint8], ends: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers whose last digit stands before ``ends``: one pass per digit, not per row."""
    values = np.zeros(len(ends), dtype=np.int64)
    for place in range(int(widths.max(initial=0))):
        inside = widths > place
        digits = text[np.where(inside, ends - 1 - place, 0)].astype(np.int64) - _ZERO
        values += np.where(inside, digits, 0) * 10**place
    return values
