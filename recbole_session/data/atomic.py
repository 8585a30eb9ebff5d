"""Reading the columns of an atomic file, with the checks that RecBole leaves out."""

import csv
from collections.abc import Collection
from itertools import islice
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_session.errors import InputError, shown

FIELD_TYPES = ("token", "token_seq", "float", "float_seq")
LATEST_SECOND = 10**11  # the year 5138; what lies beyond counts milliseconds
ROWS_AT_ONCE = 1 << 18  # of a file that is read

Arrays = dict[str, NDArray[Any]]
Tokens = dict[str, list[str]]


def read_header(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Field names and types of an atomic file, in the order of its columns; a byte order mark is skipped.

    Raises
    ------
    InputError
        If the file is missing or empty, a column is not written ``name:type``, or a name is there twice.
    """
    try:
        with path.open(encoding=encoding) as file:
            line = file.readline().rstrip("\r\n").removeprefix("\ufeff")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or f"not {encoding} text"
        raise InputError(f"{path} cannot be read: {reason}") from error
    if not line:
        raise InputError(f"{path} is empty; its first line must name the columns, e.g. user_id:token")
    fields: dict[str, str] = {}
    for column in line.split(separator):
        name, colon, kind = column.partition(":")
        if not colon or kind not in FIELD_TYPES:
            raise InputError(
                f"{path}, line 1: column {shown(column)} is not written name:type with type one of "
                f"{', '.join(FIELD_TYPES)} (columns are separated by field_separator {separator!r})"
            )
        if name in fields:
            raise InputError(f"{path}, line 1: column {shown(name)} is there twice")
        fields[name] = kind
    return fields


def read_columns(
    path: Path, fields: dict[str, str], wanted: Collection[str], separator: str, encoding: str
) -> pd.DataFrame:
    """Columns ``wanted`` of an atomic file: tokens as categories, floats as float64; errors as in `parse_columns`."""
    return frame_of(*parse_columns(path, fields, wanted, separator, encoding))


def frame_of(arrays: Arrays, tokens: Tokens) -> pd.DataFrame:
    """Table of the columns that `parse_columns` returns; a column of codes without ``tokens`` names only numbers."""
    columns: dict[str, Any] = dict(arrays)
    for name, codes in arrays.items():
        if codes.dtype != np.float64:
            known = tokens.get(name)
            names = pd.RangeIndex(codes.max(initial=-1) + 1) if known is None else pd.Index(known, dtype=object)
            columns[name] = pd.Categorical.from_codes(codes, categories=names, validate=False)
    return pd.DataFrame(columns, copy=False)


def parse_columns(
    path: Path, fields: dict[str, str], wanted: Collection[str], separator: str, encoding: str
) -> tuple[Arrays, Tokens]:
    """Read columns ``wanted`` some rows at a time, in memory that grows with the result alone.

    Returns
    -------
    arrays : dict
        By name: float64 ``[N]``, exact for integers to 2**53, or the tokens of a column as codes, int32 ``[N]``, in
        the order in which they first appear, -1 where there is none.
    tokens : dict
        By name of a column of codes: its tokens in that order.

    Raises
    ------
    InputError
        If a row has more or fewer columns than the header, or a float is not a number; with its line.
    """
    check_rows(path, len(fields), separator, encoding)
    kinds = {name: np.float64 if fields[name] == "float" else np.int32 for name in fields if name in wanted}
    floats = [name for name, kind in kinds.items() if kind == np.float64]

    def parse(as_numbers: Collection[str]) -> tuple[Arrays, Tokens]:
        codes_of: dict[str, dict[str, int]] = {name: {} for name in kinds if name not in floats}
        parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, kind)] for name, kind in kinds.items()}
        # An id may be spelled "NA" or "null"; only nothing at all is missing. Quotes are part of an id.
        with pd.read_csv(
            path, sep=separator, encoding=encoding, header=None, skiprows=1, names=list(fields), index_col=False,
            usecols=list(kinds), dtype={name: "float64" if name in as_numbers else object for name in kinds},
            keep_default_na=False, na_values=[""], quoting=csv.QUOTE_NONE, low_memory=False, chunksize=ROWS_AT_ONCE,
        ) as chunks:  # fmt: skip
            for chunk in chunks:
                for name in codes_of:
                    parts[name].append(_codes(chunk[name], codes_of[name]))
                for name in floats:
                    parts[name].append((chunk[name] if as_numbers else _numbers(path, chunk[name])).to_numpy())
        arrays = {name: np.concatenate(parts.pop(name)) for name in kinds}
        return arrays, {name: list(known) for name, known in codes_of.items()}

    try:
        return parse(floats)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        return parse(())  # which finds the line


def _codes(values: pd.Series, known: dict[str, int]) -> NDArray[np.int32]:
    """Codes of tokens, -1 for a missing one; ``known`` takes the new ones."""
    codes, seen = pd.factorize(values)
    numbers = [known.setdefault(token, len(known)) for token in seen.tolist()]
    return np.array([*numbers, -1], dtype=np.int32)[codes]


def _numbers(path: Path, texts: pd.Series) -> pd.Series:
    """Numbers of a column's texts, or an `InputError` that names the line of what is not one."""
    numbers = pd.to_numeric(texts, errors="coerce").astype("float64")
    is_endless = texts.str.fullmatch(r"[+-]?[0-9]{309,}", na=False).astype(bool)
    numbers[is_endless] = np.inf  # as pandas 3 reads them; pandas 2 refuses them
    is_bad = (numbers.isna() & texts.notna()).to_numpy()
    if is_bad.any():
        row = texts.index[is_bad][0]
        raise InputError(f"{path}, line {row + 2}: {texts.name} is {shown(texts[row])}; it must be a number")
    return numbers


def read_titles(path: Path, item_field: str, separator: str, encoding: str) -> dict[str, str]:
    """Names of items by raw id, from an ``.item`` file: its first column whose name ends in ``title`` or ``name``.

    Without the file or such a column, no item has a name. A damaged file is not an error, as nothing else is read from
    it: the log says what is wrong.
    """
    if not path.is_file():
        return {}
    try:
        fields = read_header(path, separator, encoding)
        title = next((name for name in fields if name.lower().endswith(("title", "name"))), None)
        if title is None or item_field not in fields:
            return {}
        frame = read_columns(path, fields, [item_field, title], separator, encoding)
    except InputError as error:
        getLogger().warning(f"items have no names: {error}")
        return {}
    return dict(frame[[item_field, title]].dropna().itertuples(index=False, name=None))


def check_rows(path: Path, n_columns: int, separator: str, encoding: str) -> None:
    """Count the columns of every row: pandas cuts or fills rows of another width in silence.

    An `InputError` names the first line, counted as an editor does, that has another width.
    """
    # All separators and line ends of the file, in their order, must repeat these.
    period = np.frombuffer((separator * (n_columns - 1) + "\n").encode(), dtype=np.uint8)
    n_marks, last = 0, "\n"
    try:
        with path.open(encoding=encoding, newline="") as file:
            while text := file.read(1 << 22):
                text += file.read(1) if text.endswith("\r") else ""
                text, last = text.replace("\r\n", "\n"), text[-1]
                strange = next((mark for mark in "\r\0" if mark in text), None)
                if strange is not None:
                    line = n_marks // n_columns + text[: text.index(strange)].count("\n") + 1
                    raise InputError(f"{path}, line {line} holds {strange!r} within a value")
                data = np.frombuffer(text.encode(), dtype=np.uint8)
                marks = data[(data == period[0]) | (data == period[-1])]
                differs = marks != np.resize(np.roll(period, -(n_marks % n_columns)), len(marks))
                if differs.any():
                    wrong = n_marks + int(differs.argmax())
                    return _refuse_line(path, wrong // n_columns + 1, n_columns, separator, encoding)
                n_marks += len(marks)
    except UnicodeError as error:
        raise InputError(f"{path} cannot be read: not {encoding} text") from error
    if n_marks % n_columns not in (0, n_columns - 1) or (n_marks % n_columns == 0 and last != "\n"):
        _refuse_line(path, n_marks // n_columns + 1, n_columns, separator, encoding)
    return None


def _refuse_line(path: Path, number: int, n_columns: int, separator: str, encoding: str) -> None:
    """Name a line of another width, unless it and all that follow are blank."""
    with path.open(encoding=encoding) as file:
        lines = islice(file, number - 1, None)
        line = next(lines, "").rstrip("\n")
        if line or any(map(str.strip, lines)):
            found = line.count(separator) + 1
            raise InputError(f"{path}, line {number} has {found} columns; the header names {n_columns}")


def check_times(path: Path, field: str, times: pd.Series) -> None:
    """Refuse times that are missing or not in seconds; the `InputError` names the first such line."""
    values = times.to_numpy(dtype="float64")
    lowest, highest = values.min(initial=0), values.max(initial=0)  # no copy of the column; nan where one is missing
    if lowest >= -LATEST_SECOND and highest <= LATEST_SECOND:
        return
    for is_bad, what in (
        (np.isnan(values), "is missing"),
        (np.abs(values) > LATEST_SECOND, f"is beyond {LATEST_SECOND:g}: write seconds, not milliseconds"),
    ):
        if is_bad.any():
            raise InputError(f"{path}, line {int(is_bad.argmax()) + 2}: {field} {what}")
