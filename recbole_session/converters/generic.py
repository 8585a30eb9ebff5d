"""Anyone's interactions: CSV, JSON lines or Parquet with named columns, read by DuckDB."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb

from recbole_session.converters.columns import FORMATS, SECONDS, Columns, id_fault, number, seconds_of
from recbole_session.converters.lines import (
    MAX_LINE_BYTES,
    MAX_TIME,
    REPORTED,
    BadLine,
    line_faults,
    lines_sql,
    shown,
    sql_path,
    sql_text,
    time_fault,
)
from recbole_session.converters.sources import Source
from recbole_session.errors import InputError

_IDS = ("user", "item", "session")
_UNIT_NAMES = {"s": "Unix seconds", "ms": "Unix milliseconds", "iso": "an ISO date like 2017-12-31T23:59:59Z"}
_FIELD = "field_number_"  # a CSV column by its place: DuckDB takes "Id" and "id" for one name


class GenericReader:
    """Reads files of interactions of one format."""

    id_type = "VARCHAR"

    def __init__(self, source: Source, columns: Columns) -> None:
        self._name, self._columns, self.computed = source.name, columns, columns.computed
        self.encoding = columns.encoding
        self.format = columns.format or _format_of(source)
        if self.is_parquet and source.member is not None:
            raise InputError(f"{source.name}: a Parquet file is not read from inside a zip: unpack it first.")

    @property
    def is_parquet(self) -> bool:
        """Whether files are Parquet, and so not text."""
        return self.format == "parquet"

    def select(self, path: Path) -> str:
        """Return the SELECT of the rows.

        Raises
        ------
        InputError
            If a column is missing.
        """
        make = {"csv": self._csv_fields, "jsonl": self._json_fields, "parquet": self._parquet_fields}
        fields, unit = make[self.format](path)
        roles = self._columns.wanted
        rating = "number(rating)" if "rating" in roles else "1.0"
        session, title = (role if role in roles else "NULL" for role in ("session", "title"))
        fits = " AND ".join(f"fits({role})" for role in ("user", "item", "session") if role in roles)
        return f"""
            SELECT CASE WHEN good THEN token("user") END AS user_id, CASE WHEN good THEN token(item) END AS item_id,
                rating, CASE WHEN good THEN CAST(floor(seconds) AS BIGINT) END AS seconds,
                {session} AS own_session, title, used AND NOT good AS malformed
            FROM (SELECT *, used AND coalesce(seconds >= 0 AND floor(seconds) <= {MAX_TIME} AND isfinite(rating)
                    AND {fits.replace("fits(user)", 'fits("user")')}, false) AS good
                FROM (SELECT "user", item, {session} AS session, {title} AS title, {SECONDS[unit]} AS seconds,
                        {rating} AS rating, used
                    FROM ({fields})))"""

    def faults(self, path: Path, rows: list[int], rejected: list[int]) -> list[BadLine]:
        """Name the first malformed lines; Parquet's "lines" are rows."""
        if self.format == "jsonl":
            return line_faults(path, 0, rows, rejected, self._json_reason)
        if self.format == "csv":
            return list(_first(self._csv_faults(path)))
        fields, _ = self._parquet_fields(path)
        with duckdb.connect() as connection:
            found = []
            for row in rows:
                record = connection.sql(f"SELECT * FROM ({fields}) LIMIT 1 OFFSET {row}").fetchall()[0]
                found.append(BadLine(row + 1, self.reason(record[: len(self._columns.wanted)]) or "does not read"))
        return found

    def _csv_fields(self, path: Path) -> tuple[str, str]:
        header, skip = self._csv_header(path)
        names = ", ".join(f"'{_FIELD}{place}': 'VARCHAR'" for place in range(len(header)))
        quote = "'\"'" if self._columns.quoted else "''"
        table = (
            f"read_csv({sql_path(path)}, columns={{{names}}}, auto_detect=false, header=false, skip={skip}, "
            f"delim={sql_text(self._columns.delimiter)}, quote={quote}, escape={quote}, "
            f"strict_mode={self._columns.quoted}, "
            f"store_rejects=true, max_line_size={MAX_LINE_BYTES}, buffer_size={2 * MAX_LINE_BYTES})"
        )
        if self._columns.computed:
            every = ", ".join(f"{_FIELD}{place} AS {_quoted(name)}" for place, name in enumerate(header))
            table = f"(SELECT *, {every} FROM {table})"
        picked = ", ".join(
            f'{column[1:] if column[0] == "=" else _FIELD + str(header.index(column))} AS "{role}"'
            for role, column in self._columns.wanted.items()
        )
        return f"SELECT {picked}, {self._used} AS used FROM {table}", self._columns.time_unit

    @property
    def _used(self) -> str:
        """SQL of whether a row is wanted, on the file's columns under their own names."""
        return "true" if self._columns.where is None else f"coalesce({self._columns.where}, false)"

    def _csv_header(self, path: Path) -> tuple[list[str], int]:
        if self._columns.header:
            return list(self._columns.header), 0
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = self._csv_reader(stream)
            try:
                header = next(reader)
            except csv.Error as error:
                what = f"{self._name} line 1 is not a CSV header ({error})"
                raise InputError(f"{what}: the columns need names.") from error
            self.check_columns(header)
            return header, reader.line_num

    def _csv_reader(self, stream: Iterable[str]) -> Any:
        if self._columns.quoted:
            return csv.reader(stream, delimiter=self._columns.delimiter, strict=True)
        return csv.reader(stream, delimiter=self._columns.delimiter, strict=True, quoting=csv.QUOTE_NONE)

    def check_columns(self, names: list[str]) -> None:
        """Refuse a file that lacks a wanted column, or has it twice."""
        for column in self._columns.wanted.values():
            if names.count(column) != 1 and not column.startswith("="):
                found = f"{names.count(column) or 'no'} column {column!r} but {shown(', '.join(names))}"
                raise InputError(
                    f"{self._name} line 1 has {found}: "
                    "name its columns by --user_col, --item_col, --time_col, --rating_col, and mind --delimiter."
                )

    def _csv_faults(self, path: Path) -> Iterator[BadLine]:
        """Read a CSV file once more with Python's csv module, which counts lines; a record may span several."""
        header, skip = self._csv_header(path)
        places = [header.index(name) if name[0] != "=" else None for name in self._columns.wanted.values()]
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = self._csv_reader(stream)
            if skip:
                next(reader)
            while True:
                line = reader.line_num + 1
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield BadLine(line, f"not CSV: {error}")
                    continue
                if any(re.search("[\udc80-\udcff]", field) for field in record):
                    yield BadLine(line, "holds bytes that are not UTF-8")
                elif len(record) != len(header) and record:
                    yield BadLine(line, f"found {len(record)} fields, expected {len(header)}")
                elif record and (reason := self.reason([None if place is None else record[place] for place in places])):
                    yield BadLine(line, reason)

    def _json_fields(self, path: Path) -> tuple[str, str]:
        keys = [column for column in self._columns.wanted.values() if column[0] != "="]
        every = self._json_keys(path) if self._columns.computed else []
        pointers = ", ".join(sql_text("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys + every)
        numbers = "'VARCHAR', 'UBIGINT', 'BIGINT', 'DOUBLE'"
        picked = ", ".join(
            f'{column[1:]} AS "{role}"'
            if column[0] == "="
            else f"CASE WHEN json_type(v[{keys.index(column) + 1}]) IN "
            f"({numbers if role in ('time', 'rating') else numbers[:-10]}) "
            f"THEN v[{keys.index(column) + 1}]->>'$' END AS \"{role}\""
            for role, column in self._columns.wanted.items()
        )
        table = (
            f"(SELECT text, CASE WHEN json_valid(text) AND json_type(text) = 'OBJECT' "
            f"THEN json_extract(text, [{pointers}]) END AS v FROM {lines_sql(path)})"
        )
        if every:
            named = (f"v[{place}]->>'$' AS {_quoted(key)}" for place, key in enumerate(every, start=len(keys) + 1))
            table = f"(SELECT *, {', '.join(named)} FROM {table})"
        # A line that is not JSON has no columns to test and counts as malformed.
        used = f"coalesce(trim(text) <> '', false) AND (v IS NULL OR {self._used})"
        return f"SELECT {picked}, {used} AS used FROM {table}", self._columns.time_unit

    def _json_keys(self, path: Path) -> list[str]:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            try:
                return list(json.loads(stream.readline(MAX_LINE_BYTES)))
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{self._name} line 1 is not a JSON object, and --where needs its keys.") from error

    def _json_reason(self, line: bytes) -> str:
        try:
            return self.reason(self.json_values(line)) or f"not a JSON object: {shown(line)}"
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
            raise ValueError("holds bytes that are not UTF-8") from None
        except (ValueError, TypeError, RecursionError):
            raise ValueError(f"not a JSON object: {shown(line)}") from None

    def csv_header(self, line: bytes) -> list[str]:
        """Return the columns that a CSV file's first line names, or those it is said to have."""
        if self._columns.header:
            return list(self._columns.header)
        header = self._csv_record(line)
        self.check_columns(header)
        return header

    def csv_values(self, line: bytes, header: list[str]) -> list[str] | None:
        """Return what a line holds for each wanted column, None for a blank one; ValueError as in `json_values`."""
        record = self._csv_record(line)
        if record and len(record) != len(header):
            raise ValueError(f"found {len(record)} fields, expected {len(header)}")
        return [record[header.index(name)] for name in self._columns.wanted.values()] if record else None

    def _csv_record(self, line: bytes) -> list[str]:
        try:
            return next(self._csv_reader(iter([line.decode("utf-8")])), [])
        except UnicodeDecodeError:
            raise ValueError("holds bytes that are not UTF-8") from None
        except csv.Error as error:
            raise ValueError(f"not CSV: {error}") from None

    def _parquet_fields(self, path: Path) -> tuple[str, str]:
        table = f"read_parquet({sql_path(path)})"
        with duckdb.connect() as connection:
            try:
                described = connection.sql(f"DESCRIBE SELECT * FROM {table}").fetchall()
            except duckdb.Error as error:
                what = f"{self._name} does not read as Parquet ({shown(str(error))})"
                raise InputError(f"{what}: is it whole?") from error
        types = {name: kind for name, kind, *_ in described}
        self.check_columns(list(types))
        unit = self._columns.time_unit
        picked = []
        for role, name in self._columns.wanted.items():
            kind, value = (types[name], _quoted(name)) if name[0] != "=" else ("VARCHAR", name[1:])
            if role == "time" and kind.startswith(("TIMESTAMP", "DATE")):  # a time that knows its unit
                value, unit = f"CAST(floor(epoch({value})) AS BIGINT)", "s"
            elif not re.match("VARCHAR|ENUM|U?(TINY|SMALL|BIG|HUGE)?INT", kind) and (
                role not in ("time", "rating") or not re.match("DOUBLE|FLOAT|DECIMAL", kind)
            ):
                value = "NULL"
            picked.append(f'CAST({value} AS VARCHAR) AS "{role}"')
        return f"SELECT {', '.join(picked)}, {self._used} AS used FROM {table}", unit

    def reason(self, values: Any) -> str | None:
        """Return why a record is malformed: the first of its values that cannot be what its column holds."""
        record = {
            role: value
            for (role, column), value in zip(self._columns.wanted.items(), values, strict=True)
            if column[0] != "="
        }
        seconds = seconds_of(record.get("time", 0), self._columns.time_unit if "time" in record else "s")
        for role, value in record.items():
            if role in _IDS and type(value) not in (str, int):
                return f"{role} {shown(str(value))} is not text or a whole number"
            if role == "time" and seconds is None:
                return f"time {shown(str(value))} is not {_UNIT_NAMES[self._columns.time_unit]}"
            if role == "rating" and number(value) is None:
                return f"rating {shown(str(value))} is not a number"
        for role in _IDS:
            if role in record and (fault := id_fault(str(record[role]))):
                return f"{role} {shown(str(record[role]), 20)} {fault}"
        return time_fault(math.floor(seconds or 0))


def _format_of(source: Source) -> str:
    name = PurePosixPath((source.member or source.path.name).lower().removesuffix(".gz").removesuffix(".zst"))
    for format_name, endings in FORMATS.items():
        if name.suffix in endings:
            return format_name
    raise InputError(f"{source.name} has no known ending: say by --format which of {', '.join(FORMATS)} it is.")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first(faults: Iterator[BadLine]) -> Iterator[BadLine]:
    yield from (fault for fault, _ in zip(faults, range(REPORTED), strict=False))
