"""Ids as atomic files can hold them."""

from __future__ import annotations

import re
from urllib.parse import quote

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
# `token(id)` for DuckDB, which calls back to Python for the few ids that need it. No IN with a list: DuckDB makes a
# join of a long one, and a join loses the order of the rows.
_RESERVED = "|".join(re.escape(word) for word in sorted(RESERVED))
MACRO = rf"""CREATE MACRO token(id) AS CASE
    WHEN regexp_matches(id, '[\x00-\x1f\x7f-\x{{9f}}\x{{2028}}\x{{2029}}"%]|^(?:{_RESERVED})$') THEN escape_token(id)
    ELSE id END"""


def escape_token(text: str) -> str:
    """Return text as a token: unsafe characters percent-encoded as UTF-8 bytes, others left alone.

    ``urllib.parse.unquote(token, errors="surrogatepass")`` is the way back. No two texts share a token.
    """
    if text in RESERVED:
        return f"%{ord(text[0]):02X}{text[1:]}"
    return _UNSAFE.sub(lambda match: quote(match[0], safe="", errors="surrogatepass"), text)


def id_fault(text: str) -> str | None:
    """Return why a text cannot be an id, or None if it can."""
    if not text.strip():
        return "is empty"
    if len(text) * 4 > MAX_TOKEN_BYTES and len(escape_token(text).encode()) > MAX_TOKEN_BYTES:
        return f"is longer than {MAX_TOKEN_BYTES} bytes"
    return None
