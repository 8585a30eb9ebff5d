"""MovieLens ratings in all their shapes: four numbers a line and one separator."""

import csv
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from recbole_session.converters.engine import Reader
from recbole_session.converters.lines import MAX_TIME, BadLine, line_faults, lines_sql, shown, sql_text, time_fault
from recbole_session.converters.sources import Source, beside, open_source, plain_text
from recbole_session.errors import InputError

FIELDS = ("user", "item", "rating", "timestamp")
# The grammar of each field; the digits are bounded so that int64 and float64 hold every value exactly.
GRAMMAR = ("[0-9]{1,18}", "[0-9]{1,18}", r"[0-9]{1,8}(?:\.[0-9]{0,7})?", "[0-9]{1,18}")


@dataclass(frozen=True)
class Layout:
    """How a MovieLens release writes its ratings: the separator and the header lines it may have.

    ``names`` are the files that may lie beside them with the titles of the films, by their separator: the id is the
    first column, the title the second.
    """

    delimiter: str
    headers: tuple[str, ...] = ()
    header_required: bool = False
    names: dict[str, str] = field(default_factory=dict)


class MovieLensReader(Reader):
    """Reads a ratings file of one layout. With ``skip_bad`` a foreign header is a malformed line, no reason to stop."""

    id_type = "BIGINT"

    def __init__(self, source: Source, layout: Layout, skip_bad: bool) -> None:
        self._source, self._layout, self._skip_bad = source, layout, skip_bad

    def select(self, scratch: Path) -> str:
        """Return the SELECT of the rows, after a look at the first line.

        An `InputError` if that has another separator or number of fields, or a header where none belongs, or the
        reverse.
        """
        self._path = plain_text(self._source, scratch)
        self._skip = self._check_first()
        mark = self._layout.delimiter
        grammar = sql_text(re.escape(mark).join(GRAMMAR))
        return f"""
            SELECT CAST(fields[1] AS BIGINT) AS user_id, CAST(fields[2] AS BIGINT) AS item_id,
                CAST(fields[3] AS DOUBLE) AS rating, CAST(fields[4] AS BIGINT) AS seconds,
                NULL AS own_session, NULL AS title, fields IS NULL AND trim(text) <> '' AS malformed
            FROM (SELECT text, CASE
                    WHEN regexp_full_match(text, {grammar}) AND TRY_CAST(split[4] AS BIGINT) <= {MAX_TIME} THEN split
                    END AS fields
                FROM (SELECT text, string_split(text, {sql_text(mark)}) AS split
                    FROM {lines_sql(self._path, self._skip)}))"""

    def faults(self, rows: list[int], rejected: list[int]) -> list[BadLine]:
        """Name malformed lines, see `line_faults`."""
        return line_faults(self._path, self._skip, rows, rejected, self._reason)

    def _check_first(self) -> int:
        """Return how many lines precede the rows: 1 for a header."""
        with self._path.open("rb") as stream:
            first = stream.readline(1 << 20).removeprefix(b"\xef\xbb\xbf").rstrip(b"\n")
        text, layout = first.decode("utf-8", "replace"), self._layout
        if text.strip() in layout.headers:
            return 1
        found = f"{self._source.name} line 1 is {shown(first)}"
        if layout.header_required:
            raise InputError(f"{found}, but must be the header {layout.headers[0]!r}: is this the file?")
        n_fields = len(text.split(layout.delimiter))
        if n_fields != len(FIELDS) and not (self._skip_bad and n_fields > 1):
            separator = layout.delimiter.replace("\t", "tab")
            raise InputError(
                f"{found}, but must have {len(FIELDS)} fields ({', '.join(FIELDS)}) separated by {separator!r}: "
                "is this the ratings file of this dataset?"
            )
        if not re.search("[0-9]", text) and not self._skip_bad:
            raise InputError(f"{found}, a header, but this dataset's file has none: remove that line.")
        return 0

    def _reason(self, line: bytes) -> str:
        fields = line.split(self._layout.delimiter.encode())
        if len(fields) != len(FIELDS):
            return f"found {len(fields)} fields, expected {len(FIELDS)}, in {shown(line)}"
        for name, grammar, value in zip(FIELDS, GRAMMAR, fields, strict=True):
            if not re.fullmatch(grammar.encode(), value):
                kind = "non-negative number" if name == "rating" else "non-negative whole number"
                return f"{name} {shown(value)} is not a {kind}"
        return time_fault(int(fields[3])) or f"unreadable: {shown(line)}"


def film_titles(source: Source, layout: Layout) -> dict[str, str]:
    """Titles of films by id, from the file beside the ratings; none where there is no such file."""
    for name, separator in layout.names.items():
        if (file := beside(source, name)) is not None:
            with open_source(file) as read:
                content = b"".join(iter(partial(read, 1 << 20), b""))
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError:  # ml-100k and ml-1m
                text = content.decode("latin-1")
            lines = text.splitlines()
            rows = csv.reader(lines) if separator == "," else (line.split(separator) for line in lines)
            return {str(int(row[0])): row[1] for row in rows if len(row) > 1 and re.fullmatch(GRAMMAR[1], row[0])}
    return {}
