"""Reading the columns of an atomic file, with the checks that RecBole leaves out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_session.errors import InputError

FIELD_TYPES = ("token", "token_seq", "float", "float_seq")
LATEST_SECOND = 10**11  # the year 5138; what lies beyond counts milliseconds


def read_header(path: Path, separator: str, encoding: str | None) -> dict[str, str]:
    """Field names and types of an atomic file, in the order of its columns.

    Raises
    ------
    InputError
        If the file is missing or empty, or a column is not written ``name:type``.
    """
    try:
        with path.open(encoding=encoding or "utf-8") as file:
            line = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    if not line:
        raise InputError(f"{path} is empty; its first line must name the columns, e.g. user_id:token")
    fields: dict[str, str] = {}
    for column in line.split(separator):
        name, colon, kind = column.partition(":")
        if not colon or kind not in FIELD_TYPES:
            raise InputError(
                f"{path}, line 1: column {column!r} is not written name:type with type one of {', '.join(FIELD_TYPES)}"
                f" (columns are separated by field_separator {separator!r})"
            )
        fields[name] = kind
    return fields


def read_columns(
    path: Path, fields: dict[str, str], wanted: Collection[str], separator: str, encoding: str | None
) -> pd.DataFrame:
    """Columns ``wanted`` of an atomic file: tokens as text, floats as float64 (exact for integers to 2**53).

    Raises
    ------
    InputError
        If a row has more columns than the header, or a float is no number.
    """
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            encoding=encoding or "utf-8",
            header=None,
            skiprows=1,
            names=list(fields),
            index_col=False,
            usecols=[name for name in fields if name in wanted],
            dtype={name: "float64" if kind == "float" else "str" for name, kind in fields.items()},
            # An id may be spelled "NA" or "null"; only nothing at all is missing.
            keep_default_na=False,
            na_values=[""],
            quoting=3,
        )
    except (ValueError, UnicodeDecodeError) as error:
        where = _first_bad_number(path, fields, wanted, separator, encoding) or " ".join(str(error).split())
        raise InputError(f"{path} does not fit its header: {where}") from error
    _check_row_width(path, len(fields), separator, encoding)
    return frame[[name for name in fields if name in wanted]]


def _first_bad_number(
    path: Path, fields: dict[str, str], wanted: Collection[str], separator: str, encoding: str | None
) -> str:
    """Words for the first value of a float column that is no number, or nothing where that is not the matter."""
    floats = [name for name in fields if name in wanted and fields[name] == "float"]
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            encoding=encoding or "utf-8",
            header=None,
            skiprows=1,
            names=list(fields),
            index_col=False,
            usecols=floats,
            dtype="str",
            keep_default_na=False,
            quoting=3,
        )
    except (ValueError, UnicodeDecodeError):
        return ""
    for name in floats:
        is_bad = (pd.to_numeric(frame[name], errors="coerce").isna() & (frame[name] != "")).to_numpy()
        if is_bad.any():
            row = int(is_bad.argmax())
            return f"line {row + 2}: {name} is {frame[name].iloc[row]!r}; it must be a number"
    return ""


def _check_row_width(path: Path, n_columns: int, separator: str, encoding: str | None) -> None:
    """Compare the second line with the header: pandas cuts or fills rows of another width in silence."""
    with path.open(encoding=encoding or "utf-8") as file:
        file.readline()
        line = file.readline().rstrip("\r\n")
    if line and line.count(separator) + 1 != n_columns:
        raise InputError(f"{path}, line 2 has {line.count(separator) + 1} columns; the header names {n_columns}")


def check_times(path: Path, field: str, times: pd.Series) -> None:
    """Refuse times that are missing or not in seconds.

    Raises
    ------
    InputError
        Naming the first offending line.
    """
    values = times.to_numpy(dtype="float64")
    for is_bad, what in (
        (~np.isfinite(values), "is missing"),
        (np.abs(values) > LATEST_SECOND, f"is beyond {LATEST_SECOND:g}: write seconds, not milliseconds"),
    ):
        if is_bad.any():
            raise InputError(f"{path}, line {int(is_bad.argmax()) + 2}: {field} {what}")
