r"""Steam reviews: a Python 2 dict literal a line, walked by one regular expression, never evaluated.

The expression steps over every key and value as Python's own tokenizer would, so text inside a review
cannot pass for a field. Strings are matched by possessive loops and the kinds of pairs exclude each
other, so a line has one way to match: time is linear in its length, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.converters.parallel import map_blocks
from recbole_session.converters.rows import BadLine, Block, LineCheck, Rows, read_blocks, shown
from recbole_session.converters.sessions import DAY
from recbole_session.converters.sources import Source, open_source
from recbole_session.converters.tokens import id_fault
from recbole_session.errors import InputError

KEYS = (b"username", b"product_id", b"date")
PARALLEL_BYTES = 32 << 20  # a small file is not worth the start of the workers

_SINGLE = rb"'[^'\\\n]*+(?:\\[^\n][^'\\\n]*+)*+'"
_DOUBLE = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:[lL]|(?:\.[0-9]*+)?(?:[eE][-+]?[0-9]++)?)"
_VALUE = rb"(?:u?(?:%b|%b)|%b|True|False|None)" % (_SINGLE, _DOUBLE, _NUMBER)
_ANY_KEY = b"|".join(KEYS)


def _line_pattern(quotes: bytes, colon: bytes, comma: bytes, space: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a whole line with one group per key; the last value of a key wins.

    Keys hold no escapes: an escaped spelling of a wanted key must not slip by as another key.
    """
    pairs = []
    for quote in quotes.decode():
        mark = quote.encode()
        wanted = [rb"%b%b%b(%b)" % (key, mark, colon, _VALUE) for key in KEYS]
        other = rb"(?!(?:%b)%b)[^%b\\\n]*+%b%b%b" % (_ANY_KEY, mark, mark, mark, colon, _VALUE)
        pairs.append(rb"%b(?:%b|%b)" % (mark, b"|".join(wanted), other))
    # A pair is closed by a comma or stands before the closing brace.
    body = rb"^%b\{(?:%bu?(?:%b)%b(?:%b|(?=\})))+%b\}%b$"
    return re.compile(body % (space, space, b"|".join(pairs), space, comma, space, space), re.MULTILINE)


# What Python's repr writes, and what its reader also takes: either quote, blanks anywhere.
PLAIN_LINE = _line_pattern(b"'", b": ", b", ", b"")
LINE = _line_pattern(b"'\"", rb" *+: *+", b",", b" *+")
_ESCAPE = re.compile(r"\\(?:[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|.)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNIX_EPOCH = date(1970, 1, 1).toordinal()


def read_steam(source: Source, check: LineCheck) -> Iterator[Rows]:
    """Read a review file block by block; ratings, which Steam has none of, are 1."""
    large = source.path.stat().st_size > PARALLEL_BYTES
    with open_source(source) as stream:
        blocks = _checked(read_blocks(stream, source.name, 1 << 20), source.name)
        with closing(map_blocks(parse_block, blocks, large)) as parsed:
            for rows, bad in parsed:
                yield check.add(rows, bad)
    check.finish()


def _checked(blocks: Iterable[Block], name: str) -> Iterator[Block]:
    for block in blocks:
        if block.first_line == 1:
            _check_first(block, name)
        yield block


def _check_first(block: Block, name: str) -> None:
    line = block.data.lstrip().partition(b"\n")[0]
    if line and not line.startswith(b"{"):
        raise InputError(
            f"{name} begins with {shown(line)}, but a Steam review begins with '{{': is this the review file?"
        )


def parse_block(block: Block) -> tuple[Rows, list[BadLine]]:
    """Parse lines of review literals.

    Returns
    -------
    rows
        str users and items, ratings 1.0, int64 times (seconds, UTC midnight of the review's day).
    bad
        The lines outside the grammar, without user, item or date, or with an impossible date. Blank
        lines are neither rows nor bad.
    """
    n_lines = block.data.count(b"\n")
    bad: list[BadLine] = []
    found: list[tuple[bytes, ...]] = PLAIN_LINE.findall(block.data)
    if len(found) == n_lines:
        lines = np.arange(block.first_line, block.first_line + n_lines, dtype=np.int64)
    else:
        found, lines, bad = _match_line_by_line(block)
    keep = np.ones(len(found), dtype=bool)
    columns = []
    literals_of = zip(*found, strict=True) if found else [()] * len(KEYS)
    for key, read, literals in zip(KEYS, (_decode_id, _decode_id, _decode_day), literals_of, strict=True):
        values, reasons, codes = _read_distinct(literals, read)
        wrong = np.array([reason != "" for reason in reasons], dtype=bool)[codes] & keep
        bad += [BadLine(int(lines[row]), f"{key.decode()} {reasons[codes[row]]}") for row in np.flatnonzero(wrong)]
        keep &= ~wrong
        columns.append(values[codes])
    users, items, times = columns
    rows = Rows(users[keep], items[keep], np.ones(int(keep.sum())), times[keep].astype(np.int64), lines[keep])
    return rows, sorted(bad)


def _match_line_by_line(
    block: Block,
) -> tuple[list[tuple[bytes, ...]], NDArray[np.int64], list[BadLine]]:
    found, lines, bad = [], [], []
    for number, line in enumerate(block.data.split(b"\n")[:-1], start=block.first_line):
        if match := PLAIN_LINE.fullmatch(line) or LINE.fullmatch(line):
            found.append(tuple(_last_value(match, key) for key in range(len(KEYS))))
            lines.append(number)
        elif line.strip():
            bad.append(BadLine(number, f"not a literal of a Steam review: {shown(line)}"))
    return found, np.array(lines, dtype=np.int64), bad


def _last_value(match: re.Match[bytes], key: int) -> bytes:
    """Return a key's value, b"" if absent; of a key in single and in double quotes the later one."""
    groups = range(key + 1, len(match.groups()) + 1, len(KEYS))
    return match[max(groups, key=match.start)] or b""


def _read_distinct(
    literals: Sequence[bytes], read: Callable[[bytes], object]
) -> tuple[NDArray[np.object_], list[str], NDArray[np.int64]]:
    """Apply ``read`` once to each distinct literal: its values, its reasons if bad ("" if not), codes [N]."""
    column = np.empty(len(literals), dtype=object)
    column[:] = literals
    codes, distinct = pd.factorize(column)
    values = np.empty(len(distinct), dtype=object)
    reasons = [""] * len(distinct)
    for code, literal in enumerate(distinct):
        try:
            values[code] = read(literal)
        except ValueError as error:  # UnicodeDecodeError is one too
            reasons[code] = f"{shown(literal)} {_why(error)}" if literal else "is missing"
    return values, reasons, codes


def _why(error: ValueError) -> str:
    return "holds bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def decode_string(literal: bytes) -> str:
    r"""Return the text of a string literal, as ``ast.literal_eval`` would.

    Raises
    ------
    ValueError
        If the literal is no string, not UTF-8, or holds an escape that Python refuses (``\x4``).
    """
    body = literal[1:] if literal[:1] == b"u" else literal
    if body[:1] not in (b"'", b'"'):
        raise ValueError("is not a string")
    text = body[1:-1].decode("utf-8")
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    escape = match[0]
    kind = escape[1]
    if kind in "xuUN" and len(escape) == 2:
        raise ValueError("holds a broken escape")
    if kind not in "01234567xuUNabfnrtv\\'\"":
        return escape  # Python leaves an unknown escape as it is
    try:
        return escape.encode("ascii").decode("unicode_escape")
    except ValueError:
        raise ValueError("holds a broken escape") from None


def _decode_id(literal: bytes) -> str:
    text = decode_string(literal)
    if reason := id_fault(text):
        raise ValueError(reason)
    return text


def _decode_day(literal: bytes) -> int:
    """Return the seconds of a day's UTC midnight."""
    text = decode_string(literal)
    if not _DATE.fullmatch(text):
        raise ValueError("is not a date like 2017-12-31")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("is no day of the calendar") from None
    return (day.toordinal() - _UNIX_EPOCH) * DAY
