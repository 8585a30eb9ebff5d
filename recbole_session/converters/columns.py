"""What the columns of a raw file are called, and what they may hold, in Python and as SQL."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from recbole_session.errors import InputError

# ---- ids as atomic files can hold them

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
_TOKEN = rf"""CREATE MACRO token(id) AS CASE
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


# ---- numbers and times

TIME_UNITS = ("s", "ms", "iso")
NUMBER = r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*"
ISO = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z| ?UTC|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])?)?"
)
# Up to the second, and the offset: "+02:00" is three groups.
_MOMENT, _OFFSET = r"^[0-9-]{10}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?", "([+-])([0-9]{2}):?([0-9]{2})$"
# What DuckDB is given; `fits` calls `token`.
MACROS = (
    _TOKEN,
    f"""CREATE MACRO number(text) AS CASE WHEN regexp_full_match(text, '{NUMBER}') THEN
        TRY_CAST(trim(text, E' \\t\\n\\r\\f') AS DOUBLE) END""",
    f"""CREATE MACRO away(text) AS (CASE regexp_extract(text, '{_OFFSET}', 1) WHEN '+' THEN 60 ELSE -60 END) * (
        60 * CAST(regexp_extract(text, '{_OFFSET}', 2) AS INT) + CAST(regexp_extract(text, '{_OFFSET}', 3) AS INT))""",
    f"""CREATE MACRO moment(text) AS CASE WHEN regexp_full_match(text, '{ISO}') THEN
        epoch(TRY_CAST(regexp_extract(text, '{_MOMENT}') AS TIMESTAMP))
        - CASE WHEN length(text) > 16 AND regexp_matches(text, '{_OFFSET}') THEN away(text) ELSE 0 END END""",
    rf"""CREATE MACRO fits(id) AS regexp_matches(id, '[^\s\pZ\x1c-\x1f\x{{85}}]')
        AND strlen(token(id)) <= {MAX_TOKEN_BYTES}""",
)
SECONDS = {"s": "number(time)", "ms": "number(time) / 1000", "iso": "moment(time)"}


def number(value: object) -> float | None:
    """Return a finite number of a raw file, given as a number or as text; None for anything else."""
    if isinstance(value, str) and not re.fullmatch(NUMBER, value, re.ASCII):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def seconds_of(value: object, unit: str) -> float | None:
    """Return a time in ``unit`` (one of `TIME_UNITS`) as seconds, Unix UTC; None if it is not such a time."""
    if unit != "iso":
        found = number(value)
        return found if unit == "s" or found is None else found / 1000
    if not isinstance(value, str) or not re.fullmatch(ISO, value):
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r" ?UTC|Z", "+00:00", value))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# ---- columns

ENCODINGS = ("utf-8", "latin-1", "cp1252", "cp1251")
FORMATS = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".json", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}


@dataclass(frozen=True)
class Columns:
    """Which columns to read and how.

    A column is a name, or ``=`` and an expression in SQL on the file's columns, which are text in CSV and JSON;
    ``where`` is such a condition. ``rating`` None gives every row the rating 1; ``session`` None makes sessions from
    gaps; ``title`` is the item's name. ``time_unit`` is ``"s"``, ``"ms"`` or ``"iso"`` (without an offset: UTC);
    fractions of a second are cut off. ``format`` None goes by the file's ending. ``header`` names the columns of a
    CSV file that does not; ``quoted`` False takes quotation marks as text.
    """

    user: str
    item: str
    time: str
    rating: str | None = None
    session: str | None = None
    title: str | None = None
    time_unit: str = "s"
    format: str | None = None
    delimiter: str = ","
    where: str | None = None
    header: tuple[str, ...] = ()
    quoted: bool = True
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        for name, allowed in (("time_unit", TIME_UNITS), ("format", FORMATS), ("encoding", ENCODINGS)):
            value = getattr(self, name)
            if value not in allowed and (name, value) != ("format", None):
                raise InputError(f"--{name} is {value!r}, but must be one of {', '.join(allowed)}.")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise InputError(f"--delimiter is {self.delimiter!r}, but must be one character, like ',' or a tab.")

    @property
    def wanted(self) -> dict[str, str]:
        """Role -> name of the column, for the columns to read."""
        roles = {role: getattr(self, role) for role in ("user", "item", "time", "rating", "session", "title")}
        return {role: column for role, column in roles.items() if column is not None}

    @property
    def computed(self) -> bool:
        """Whether SQL of the user's or of a dataset's own works on the file's columns."""
        return self.where is not None or any(column.startswith("=") for column in self.wanted.values())
