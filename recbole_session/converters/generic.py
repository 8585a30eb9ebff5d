"""Anyone's interactions: CSV, JSON lines or Parquet with named columns, read by DuckDB."""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb

from recbole_session.converters import lines
from recbole_session.converters.columns import FORMATS, SECONDS, Columns, id_fault, number, seconds_of
from recbole_session.converters.engine import Reader
from recbole_session.converters.sources import Source, plain_text
from recbole_session.errors import InputError

_IDS = ("user", "item", "session")
_UNIT_NAMES = {"s": "Unix seconds", "ms": "Unix milliseconds", "iso": "an ISO date like 2017-12-31T23:59:59Z"}
_FIELD = "field_number_"  # a CSV column by its place: DuckDB takes "Id" and "id" for one name
_NOT_UTF8 = "holds bytes that are not UTF-8"


class GenericReader(Reader):
    """Reads a file of interactions of one format."""

    def __init__(self, source: Source, columns: Columns) -> None:
        self._source, self._columns, self.computed = source, columns, columns.computed
        self._unit = columns.time_unit
        self.format = columns.format or _format_of(source)
        if self.format == "parquet" and source.member is not None:
            raise InputError(f"{source.name}: a Parquet file is not read from inside a zip: unpack it first.")

    def select(self, scratch: Path) -> str:
        """Return the SELECT of the rows; an `InputError` if a column is missing."""
        columns = self._columns
        if self.format == "parquet":
            self._path = self._source.path
        else:
            self._path = plain_text(self._source, scratch, columns.encoding)
        # SQL of whether a row is wanted, on the file's columns under their own names.
        self._used = "true" if columns.where is None else f"coalesce({columns.where}, false)"
        make = {"csv": self._csv_fields, "jsonl": self._json_fields, "parquet": self._parquet_fields}
        self._fields = make[self.format]()
        roles = columns.wanted
        rating = "number(rating)" if "rating" in roles else "1.0"
        session, title = (role if role in roles else "NULL" for role in ("session", "title"))
        fits = " AND ".join(f'fits("{role}")' for role in _IDS if role in roles)
        return f"""
            SELECT CASE WHEN good THEN token("user") END AS user_id, CASE WHEN good THEN token(item) END AS item_id,
                rating, CASE WHEN good THEN CAST(floor(seconds) AS BIGINT) END AS seconds,
                {session} AS own_session, title, used AND NOT good AS malformed
            FROM (SELECT *, used AND coalesce(seconds >= 0 AND floor(seconds) <= {lines.MAX_TIME} AND isfinite(rating)
                    AND {fits}, false) AS good
                FROM (SELECT "user", item, {session} AS session, {title} AS title, {SECONDS[self._unit]} AS seconds,
                        {rating} AS rating, used
                    FROM ({self._fields})))"""

    def faults(self, rows: list[int], rejected: list[int]) -> list[lines.BadLine]:
        """Name the first malformed lines; Parquet's "lines" are rows."""
        if self.format == "jsonl":
            return lines.line_faults(self._path, 0, rows, rejected, self._json_reason)
        if self.format == "csv":
            return list(islice(self._csv_faults(), lines.REPORTED))
        with duckdb.connect() as connection:
            found = []
            for row in rows:
                record = connection.sql(f"SELECT * FROM ({self._fields}) LIMIT 1 OFFSET {row}").fetchall()[0]
                reason = self.reason(record[: len(self._columns.wanted)]) or "does not read"
                found.append(lines.BadLine(row + 1, reason))
        return found

    def reason(self, values: Iterable[Any]) -> str | None:
        """Return why a record is malformed: the first of its values that cannot be what its column holds."""
        wanted = self._columns.wanted.items()
        record = {role: value for (role, name), value in zip(wanted, values, strict=True) if name[0] != "="}
        seconds = seconds_of(record.get("time", 0), self._unit if "time" in record else "s")
        for role, value in record.items():
            if role in _IDS and type(value) not in (str, int):
                return f"{role} {lines.shown(str(value))} is not text or a whole number"
            if role == "time" and seconds is None:
                is_iso = seconds_of(value, "iso") is not None
                hint = " but an ISO date (--time_unit iso)" if is_iso else ""
                return f"time {lines.shown(str(value))} is not {_UNIT_NAMES[self._unit]}{hint}"
            if role == "rating" and number(value) is None:
                return f"rating {lines.shown(str(value))} is not a number"
        for role in _IDS:
            if role in record and (fault := id_fault(str(record[role]))):
                return f"{role} {lines.shown(str(record[role]), 20)} {fault}"
        return lines.time_fault(math.floor(seconds or 0))

    def check_columns(self, names: list[str]) -> None:
        """Refuse a file that lacks a wanted column, or has it twice."""
        for column in self._columns.wanted.values():
            if names.count(column) != 1 and not column.startswith("="):
                found = f"{names.count(column) or 'no'} column {column!r} but {lines.shown(', '.join(names))}"
                raise InputError(
                    f"{self._source.name} line 1 has {found}: "
                    "name its columns by --user_col, --item_col, --time_col, --rating_col, and mind --delimiter."
                )

    # ---- CSV

    def _csv_fields(self) -> str:
        with self._path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            self._header, self._skip = self.csv_header(stream)
        names = {f"{_FIELD}{place}": name for place, name in enumerate(self._header)}
        quote = '"' if self._columns.quoted else ""
        table = lines.read_csv_sql(self._path, list(names), self._skip, self._columns.delimiter, quote)
        if self._columns.computed:
            every = ", ".join(f"{field} AS {lines.sql_name(name)}" for field, name in names.items())
            table = f"(SELECT *, {every} FROM {table})"
        picked = ", ".join(
            f'{column[1:] if column[0] == "=" else _FIELD + str(self._header.index(column))} AS "{role}"'
            for role, column in self._columns.wanted.items()
        )
        return f"SELECT {picked}, {self._used} AS used FROM {table}"

    def _csv_faults(self) -> Iterator[lines.BadLine]:
        """Read a CSV file once more with Python's csv module, which counts lines; a record may span several."""
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            records = self._csv_records(stream)
            if self._skip:
                next(records)
            while True:
                line = records.line_num + 1
                try:
                    values = self._csv_values(records, self._header)
                    if values and (reason := self.reason(values)):
                        yield lines.BadLine(line, reason)
                except StopIteration:
                    return
                except ValueError as error:
                    yield lines.BadLine(line, str(error))

    def _csv_records(self, text: Iterable[str]) -> Any:
        mark, quoted = self._columns.delimiter, self._columns.quoted
        return csv.reader(text, delimiter=mark, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)

    def csv_header(self, text: Iterable[str]) -> tuple[list[str], int]:
        """Return the columns that a CSV file names, or the user, and how many lines the header takes."""
        if self._columns.header:
            return list(self._columns.header), 0
        records = self._csv_records(text)
        try:
            header = next(records)
        except csv.Error as error:
            what = f"{self._source.name} line 1 is not a CSV header ({error})"
            raise InputError(f"{what}: the columns need names.") from error
        self.check_columns(header)
        return header, records.line_num

    def csv_line_values(self, line: bytes, header: list[str]) -> list[Any] | None:
        """Return what a line holds for each wanted column, None for a blank one; ValueError as in `json_values`."""
        return self._csv_values(self._csv_records([line.decode("utf-8", "surrogateescape")]), header)

    def _csv_values(self, records: Iterator[list[str]], header: list[str]) -> list[Any] | None:
        try:
            record = next(records)
        except csv.Error as error:
            raise ValueError(f"not CSV: {error}") from None
        if any(re.search("[\udc80-\udcff]", field) for field in record):
            raise ValueError(_NOT_UTF8)
        if record and len(record) != len(header):
            raise ValueError(f"found {len(record)} fields, expected {len(header)}")
        names = self._columns.wanted.values()
        return [None if name[0] == "=" else record[header.index(name)] for name in names] if record else None

    # ---- JSON lines

    def _json_fields(self) -> str:
        wanted = self._columns.wanted
        keys = [column for column in wanted.values() if column[0] != "="]
        every = self._json_keys() if self._columns.computed else []
        pointers = ", ".join(lines.sql_text("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys + every)
        picked = []
        for role, column in wanted.items():
            kinds = "'VARCHAR', 'UBIGINT', 'BIGINT'" + (", 'DOUBLE'" if role in ("time", "rating") else "")
            value = column[1:]
            if column[0] != "=":
                place = f"v[{keys.index(column) + 1}]"
                value = f"CASE WHEN json_type({place}) IN ({kinds}) THEN {place}->>'$' END"
            picked.append(f'{value} AS "{role}"')
        table = (
            f"(SELECT text, CASE WHEN json_valid(text) AND json_type(text) = 'OBJECT' "
            f"THEN json_extract(text, [{pointers}]) END AS v FROM {lines.lines_sql(self._path)})"
        )
        if every:
            named = (f"v[{place}]->>'$' AS {lines.sql_name(key)}" for place, key in enumerate(every, len(keys) + 1))
            table = f"(SELECT *, {', '.join(named)} FROM {table})"
        # A line that is not JSON has no columns to test and counts as malformed.
        used = f"coalesce(trim(text) <> '', false) AND (v IS NULL OR {self._used})"
        return f"SELECT {', '.join(picked)}, {used} AS used FROM {table}"

    def _json_keys(self) -> list[str]:
        with self._path.open(encoding="utf-8-sig", errors="replace") as stream:
            try:
                return list(json.loads(stream.readline(lines.MAX_LINE_BYTES)))
            except (ValueError, TypeError, RecursionError) as error:
                name = self._source.name
                raise InputError(f"{name} line 1 is not a JSON object, and --where needs its keys.") from error

    def _json_reason(self, line: bytes) -> str:
        try:
            return self.reason(self.json_values(line)) or f"not a JSON object: {lines.shown(line)}"
        except ValueError as error:
            return str(error)

    def json_values(self, line: bytes) -> list[Any]:
        """Return what a line holds for each wanted column, or raise ValueError with the reason why it does not."""
        try:
            record = json.loads(line.decode("utf-8"))
            return [None if key[0] == "=" else record[key] for key in self._columns.wanted.values()]
        except KeyError as error:
            raise ValueError(f"has no {error}") from None
        except UnicodeDecodeError:
            raise ValueError(_NOT_UTF8) from None
        except (ValueError, TypeError, RecursionError):
            raise ValueError(f"not a JSON object: {lines.shown(line)}") from None

    # ---- Parquet

    def _parquet_fields(self) -> str:
        table = f"read_parquet({lines.sql_path(self._path)})"
        with duckdb.connect() as connection:
            try:
                described = connection.sql(f"DESCRIBE SELECT * FROM {table}").fetchall()
            except duckdb.Error as error:
                what = f"{self._source.name} does not read as Parquet ({lines.shown(str(error))})"
                raise InputError(f"{what}: is it whole?") from error
        types = {name: kind for name, kind, *_ in described}
        self.check_columns(list(types))
        picked = []
        for role, name in self._columns.wanted.items():
            value = name[1:] if name[0] == "=" else lines.sql_name(name)
            use = "value" if name[0] == "=" else parquet_use(role, types[name])
            if use == "moment":
                value, self._unit = f"CAST(floor(epoch({value})) AS BIGINT)", "s"
            picked.append(f'CAST({"NULL" if use == "none" else value} AS VARCHAR) AS "{role}"')
        return f"SELECT {', '.join(picked)}, {self._used} AS used FROM {table}"


def parquet_use(role: str, kind: str) -> str:
    """Return what a Parquet column of a type of DuckDB's or Spark's can be for a role.

    That is ``"value"``, ``"none"``, or ``"moment"`` for a time that knows its unit.
    """
    if role == "time" and re.match("timestamp|date", kind, re.IGNORECASE):
        return "moment"
    kinds = r"varchar|string|enum|u?(tiny|small|big|huge)?int"
    kinds += "|double|float|decimal" if role in ("time", "rating") else ""
    return "value" if re.match(kinds, kind, re.IGNORECASE) else "none"


def _format_of(source: Source) -> str:
    name = PurePosixPath((source.member or source.path.name).lower().removesuffix(".gz").removesuffix(".zst"))
    for format_name, endings in FORMATS.items():
        if name.suffix in endings:
            return format_name
    raise InputError(f"{source.name} has no known ending: say by --format which of {', '.join(FORMATS)} it is.")
