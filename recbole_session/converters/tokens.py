"""Ids as atomic files can hold them, and their codes by first appearance."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.converters.pipeline import Log
from recbole_session.converters.rows import BadLine, Rows, shown

MAX_TOKEN_BYTES = 1000
# RecBole reads tokens with pandas, which turns these into missing values, and keeps [PAD] for itself.
# fmt: off
RESERVED = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "[PAD]",
))
# fmt: on
# Characters that end a field, a line or a quotation for some reader; % makes the escape reversible.
_UNSAFE = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"%]')


def escape_token(text: str) -> str:
    """Return text as a token: unsafe characters percent-encoded as UTF-8 bytes, others left alone.

    ``urllib.parse.unquote(token, errors="surrogatepass")`` is the way back. No two texts share a token.
    """
    if text in RESERVED:
        return f"%{ord(text[0]):02X}{text[1:]}"
    return _UNSAFE.sub(lambda match: quote(match[0], safe="", errors="surrogatepass"), text)


class Vocabulary:
    """Codes 0, 1, 2, ... for ids in the order of their first appearance."""

    def __init__(self) -> None:
        self._codes: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def encode(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Return the codes [N] of ids [N]; Python touches each distinct id of the block, not each row."""
        local, distinct = pd.factorize(values)
        known = self._codes
        shared = [known.setdefault(value, len(known)) for value in distinct.tolist()]
        return np.array(shared, dtype=np.int32)[local]

    def tokens(self) -> NDArray[np.object_]:
        """Return the UTF-8 token of every code."""
        table = np.empty(len(self._codes), dtype=object)
        table[:] = [escape_token(str(value)).encode("utf-8") for value in self._codes]
        return table

    def drain(self) -> NDArray[np.object_]:
        """Return the UTF-8 token of every code and forget them all: the next new id is code 0 again."""
        table = self.tokens()
        self._codes.clear()
        return table


class CodedRows(Iterator[Log]):
    """Blocks of rows with their ids coded as they come; ``users`` and ``items`` know the ids so far."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._rows = rows
        self.users, self.items = Vocabulary(), Vocabulary()

    def __next__(self) -> Log:
        for block in self._rows:
            if len(block.lines):
                codes = self.users.encode(block.users), self.items.encode(block.items)
                return Log(*codes, block.ratings, block.times)
        raise StopIteration


def id_fault(text: str) -> str | None:
    """Return why a text cannot be an id, or None if it can."""
    if not text.strip():
        return "is empty"
    if len(text) * 4 > MAX_TOKEN_BYTES and len(escape_token(text).encode()) > MAX_TOKEN_BYTES:
        return f"is longer than {MAX_TOKEN_BYTES} bytes"
    return None


def drop_bad_ids(rows: Rows) -> tuple[Rows, list[BadLine]]:
    """Drop rows whose user or item, both str, is empty or too long; they come back as bad lines."""
    keep = np.ones(len(rows.lines), dtype=bool)
    bad = []
    for what, values in (("user", rows.users), ("item", rows.items)):
        codes, distinct = pd.factorize(values)
        faults = [id_fault(value) for value in distinct.tolist()]
        wrong = np.array([fault is not None for fault in faults], dtype=bool)[codes] & keep
        for row in np.flatnonzero(wrong):
            reason = f"{what} {shown(values[row], 20)} {faults[codes[row]]}"
            bad.append(BadLine(int(rows.lines[row]), reason))
        keep &= ~wrong
    return rows.keep(keep), sorted(bad)
