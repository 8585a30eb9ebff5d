"""Anyone's interactions: CSV, JSON-lines or Parquet with named columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.converters.rows import BadLine, Block, LineCheck, Rows, read_blocks, shown
from recbole_session.converters.sources import Source, open_source
from recbole_session.converters.tokens import drop_bad_ids
from recbole_session.errors import InputError

FORMATS = {
    "csv": (".csv", ".tsv", ".txt"),
    "jsonl": (".jsonl", ".json", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}
TIME_UNITS = ("s", "ms", "iso")
BATCH_RECORDS = 1 << 16
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")
_UNIT_NAMES = {"s": "Unix seconds", "ms": "Unix milliseconds", "iso": "an ISO date like 2017-12-31T23:59:59Z"}


@dataclass(frozen=True)
class Columns:
    """Which columns to read and how.

    ``rating`` None gives every row the rating 1. ``time_unit`` is ``"s"``, ``"ms"`` or ``"iso"`` (without
    an offset: UTC); fractions of a second are cut off. ``format`` None goes by the file's ending.
    """

    user: str
    item: str
    time: str
    rating: str | None = None
    time_unit: str = "s"
    format: str | None = None
    delimiter: str = ","

    def __post_init__(self) -> None:
        if self.time_unit not in TIME_UNITS:
            raise InputError(f"--time_unit is {self.time_unit!r}, but must be one of {', '.join(TIME_UNITS)}.")
        if self.format not in (None, *FORMATS):
            raise InputError(f"--format is {self.format!r}, but must be one of {', '.join(FORMATS)}.")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise InputError(f"--delimiter is {self.delimiter!r}, but must be one character, like ',' or a tab.")

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the columns to read: user, item, time and, if there is one, rating."""
        names = (self.user, self.item, self.time)
        return names if self.rating is None else (*names, self.rating)


class Batch(NamedTuple):
    """Records as read: one sequence per wanted column, their lines, what did not read, the unit of time."""

    columns: list[Sequence[Any]]
    lines: list[int]
    bad: list[BadLine]
    time_unit: str


def read_generic(source: Source, columns: Columns, check: LineCheck) -> Iterator[Rows]:
    """Read a file of interactions batch by batch; ``check`` sees every malformed line."""
    batches = {"csv": _csv_batches, "jsonl": _json_batches, "parquet": _parquet_batches}
    for batch in batches[_format(source, columns)](source, columns):
        rows, worse = _rows(batch)
        yield check.add(rows, sorted(batch.bad + worse))
    check.finish()


def _format(source: Source, columns: Columns) -> str:
    if columns.format is not None:
        return columns.format
    name = PurePosixPath((source.member or source.path.name).lower().removesuffix(".gz"))
    for format_name, endings in FORMATS.items():
        if name.suffix in endings:
            return format_name
    raise InputError(f"{source.name} has no known ending: say by --format which of {', '.join(FORMATS)} it is.")


def _csv_batches(source: Source, columns: Columns) -> Iterator[Batch]:
    """Read a CSV file, quoted as Python's csv module reads it; a record may span lines."""
    broken: set[int] = set()  # lines that are not UTF-8
    with open_source(source) as stream:
        lines = _text_lines(read_blocks(stream, source.name), broken)
        reader = csv.reader(lines, delimiter=columns.delimiter, strict=True)
        try:
            header = next(reader)
        except csv.Error as error:
            raise InputError(f"{source.name} line 1 is no CSV header ({error}): the columns need names.") from error
        pick = itemgetter(*_positions(header, columns, source.name))
        at_end = False
        while not at_end:
            records, numbers, bad, at_end = _csv_records(reader, len(header), broken)
            yield _batch([pick(record) for record in records], numbers, bad, columns)


def _text_lines(blocks: Iterable[Block], broken: set[int]) -> Iterator[str]:
    for block in blocks:
        try:
            lines = block.data.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            lines = block.data.decode("utf-8", "surrogateescape").split("\n")
            surrogate = re.compile("[\udc80-\udcff]")
            broken.update(number for number, line in enumerate(lines, block.first_line) if surrogate.search(line))
        yield from (f"{line}\n" for line in lines[:-1])


def _positions(header: list[str], columns: Columns, name: str) -> list[int]:
    for column in columns.wanted:
        if header.count(column) != 1:
            found = f"{header.count(column) or 'no'} column {column!r} but {shown(', '.join(header))}"
            raise InputError(
                f"{name} line 1 has {found}: "
                "name its columns by --user_col, --item_col, --time_col, --rating_col, and mind --delimiter."
            )
    return [header.index(column) for column in columns.wanted]


def _csv_records(reader: Any, width: int, broken: set[int]) -> tuple[list[list[str]], list[int], list[BadLine], bool]:
    records: list[list[str]] = []
    lines: list[int] = []
    bad: list[BadLine] = []
    while len(records) < BATCH_RECORDS and len(bad) < BATCH_RECORDS:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return records, lines, bad, True
        except csv.Error as error:
            bad.append(BadLine(line, f"not CSV: {error}"))
            continue
        if broken and not broken.isdisjoint(range(line, reader.line_num + 1)):
            bad.append(BadLine(line, "holds bytes that are not UTF-8"))
        elif len(record) == width:
            records.append(record)
            lines.append(line)
        elif record:
            bad.append(BadLine(line, f"found {len(record)} fields, expected {width}"))
    return records, lines, bad, False


def _json_batches(source: Source, columns: Columns) -> Iterator[Batch]:
    pick = itemgetter(*columns.wanted)
    with open_source(source) as stream:
        for block in read_blocks(stream, source.name):
            records, lines, bad = [], [], []
            for number, line in enumerate(block.data.split(b"\n")[:-1], start=block.first_line):
                if not line.strip():
                    continue
                try:
                    records.append(pick(json.loads(line.decode("utf-8"))))
                    lines.append(number)
                except KeyError as error:
                    bad.append(BadLine(number, f"has no {error}"))
                except (ValueError, TypeError, RecursionError) as error:
                    reason = "holds bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else None
                    bad.append(BadLine(number, reason or f"not a JSON object: {shown(line)}"))
            yield _batch(records, lines, bad, columns)


def _parquet_batches(source: Source, columns: Columns) -> Iterator[Batch]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("a Parquet file needs pyarrow: pip install 'recbole-session[parquet]'.") from error
    if source.member is not None:
        raise InputError(f"{source.name}: a Parquet file is not read from inside a zip: unpack it first.")
    line = 1
    try:
        with pq.ParquetFile(source.path) as file:
            _positions(file.schema_arrow.names, columns, source.name)
            for batch in file.iter_batches(BATCH_RECORDS, columns=list(columns.wanted)):
                arrays = [batch.column(name) for name in columns.wanted]
                unit = columns.time_unit
                if pa.types.is_temporal(arrays[2].type):  # a time that knows its unit
                    arrays[2] = arrays[2].cast(pa.timestamp("s", tz=getattr(arrays[2].type, "tz", None)), safe=False)
                    arrays[2], unit = arrays[2].cast(pa.int64()), "s"
                lines = list(range(line, line + len(batch)))
                line += len(batch)
                yield Batch([array.to_pylist() for array in arrays], lines, [], unit)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source.name} does not read as Parquet ({shown(str(error))}): is it whole?") from error


def _batch(records: list[Any], lines: list[int], bad: list[BadLine], columns: Columns) -> Batch:
    width = len(columns.wanted)
    values: list[Sequence[Any]] = list(zip(*records, strict=True)) if records else [()] * width
    return Batch(values, lines, bad, columns.time_unit)


def _rows(batch: Batch) -> tuple[Rows, list[BadLine]]:
    """Turn values into columns of the right type; what does not turn is a bad line."""
    lines = np.array(batch.lines, dtype=np.int64)
    bad: list[BadLine] = []
    users, items = (_ids(values) for values in batch.columns[:2])
    times = _times(batch.columns[2], batch.time_unit)
    ratings = _numbers(batch.columns[3]) if len(batch.columns) > 3 else np.ones(len(lines))
    keep = np.ones(len(lines), dtype=bool)
    for what, column, fault in (
        ("user", 0, users == None),  # noqa: E711  elementwise
        ("item", 1, items == None),  # noqa: E711
        ("time", 2, np.isnan(times)),
        ("rating", 3, np.isnan(ratings)),
    ):
        expected = {"time": _UNIT_NAMES[batch.time_unit], "rating": "a number"}.get(what, "text or a whole number")
        bad += [
            BadLine(int(lines[row]), f"{what} {shown(str(batch.columns[column][int(row)]))} is not {expected}")
            for row in np.flatnonzero(fault & keep)
        ]
        keep &= ~fault
    whole = np.floor(times[keep]).clip(-(2.0**53), 2.0**53).astype(np.int64)
    rows, empty = drop_bad_ids(Rows(users[keep], items[keep], ratings[keep], whole, lines[keep]))
    return rows, bad + empty


def _ids(values: Sequence[Any]) -> NDArray[np.object_]:
    """Return ids as str; None where a value is neither text nor a whole number."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    if not set(map(type, values)) <= {str}:
        column[:] = [str(value) if type(value) in (str, int) else None for value in values]
    return column


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Return values as numbers; NaN where one is no finite number."""
    # Python's float is exact on every digit; pandas' parsers differ in the last one between versions.
    numbers = np.array([_number(value) for value in values], dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _number(value: object) -> float:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else np.nan
    if type(value) is int:  # bool is none
        return float(value) if abs(value) < 2**63 else np.nan
    return value if isinstance(value, float) else np.nan


def _times(values: Sequence[Any], unit: str) -> NDArray[np.float64]:
    """Return seconds (Unix, UTC), fractions included; NaN where a value is no time."""
    if unit == "iso":
        codes, distinct = pd.factorize(_ids(values), use_na_sentinel=False)
        texts = [text if isinstance(text, str) and _ISO.fullmatch(text) else None for text in distinct]
        parsed = pd.to_datetime(pd.Series(texts, dtype=object), format="ISO8601", utc=True, errors="coerce")
        missing = parsed.isna().to_numpy()
        seconds = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
        return np.where(missing, np.nan, seconds.astype(np.float64))[codes]
    numbers = _numbers(values)
    return numbers if unit == "s" else numbers / 1000
