"""Damaged atomic files: one sentence, or the rows that a reader of our own finds."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given

from recbole_session.data.atomic import check_rows, check_times, read_columns, read_header
from recbole_session.errors import InputError
from tests.hostile import Edits, edited, edits, examples

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
ROWS = "".join(f"u{place % 3}\ti{place % 7}\t{900_000_000 + place}\n" for place in range(12))
NAMES = ("user_id", "item_id", "timestamp")


def read(path: Path) -> pd.DataFrame:
    fields = read_header(path, "\t", "utf-8-sig")
    for name in NAMES:
        if name not in fields:
            raise InputError("missing")
    frame = read_columns(path, fields, NAMES, "\t", "utf-8-sig")
    if fields["timestamp"] == "float":
        check_times(path, "timestamp", frame["timestamp"])
    return frame


def expected_rows(text: str) -> list[tuple[str, ...]]:
    """Columns by name of every row, as text; what a reader does that knows nothing but lines and tabs."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n").split("\n")
    names = [column.partition(":")[0] for column in lines[0].split("\t")]
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]
    return [tuple(row[name] for name in NAMES) for row in rows]


@examples(400)
@given(changes=edits())
def test_a_damaged_file_is_one_sentence_or_its_rows(changes: Edits, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.inter"
    path.write_bytes(edited((HEADER + ROWS).encode(), changes))
    try:
        frame = read(path)
    except InputError as error:
        assert "\n" not in str(error)
        return
    text = path.read_bytes().decode()
    rows = expected_rows(text)
    assert len(frame) == len(rows)
    for found, wanted in zip(frame.itertuples(index=False), rows, strict=True):
        for value, word in zip(found, wanted, strict=True):
            if isinstance(value, float) and word:
                assert value == pytest.approx(float(word))
            else:
                assert word == ("" if pd.isna(value) else value)


@pytest.mark.parametrize("cut", range(5))
def test_rows_are_counted_across_blocks(cut: int, tmp_path: Path) -> None:
    """A row that is too narrow and one that is too wide, many blocks apart, do not make up for each other."""
    path = tmp_path / "long.inter"
    row = "u\t" + "i" * 90 + "\t1\n"
    good = HEADER + "u\t" + "x" * cut + "\t1\n" + row * 100_000
    path.write_text(good)
    check_rows(path, 3, "\t", "utf-8")
    path.write_text(good + "u\ti\n" + row * 50_000 + "u\ti\t1\t2\n")
    with pytest.raises(InputError, match="line 100003 has 2 columns; the header names 3"):
        check_rows(path, 3, "\t", "utf-8")
    path.write_text(good + "u\ti")
    with pytest.raises(InputError, match="line 100003 has 2 columns"):
        check_rows(path, 3, "\t", "utf-8")
