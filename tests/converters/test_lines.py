"""Lines as DuckDB sees them, and when malformed lines are too many."""

import duckdb
import pytest

from recbole_session.converters import lines as lines_module
from recbole_session.converters.lines import MAX_TIME, BadLine, LineCheck, line_faults, lines_sql, shown, time_fault
from recbole_session.errors import InputError


def table_of(path):
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT text FROM {lines_sql(path)}").fetchall()
        rejected = connection.sql("SELECT line FROM reject_errors ORDER BY line").fetchall()
    return [text for (text,) in rows], [line for (line,) in rejected]


def test_lines_keep_their_numbers_around_what_is_blank_or_not_utf8(tmp_path):
    path = tmp_path / "x [1] * 'q'.txt"
    path.write_bytes(b'\xef\xbb\xbfa"\n\n\xff\n  \nb\x00\n\xfe\nlast')
    texts, rejected = table_of(path)
    assert texts == ['a"', None, "  ", "b\x00", "last"]
    assert rejected == [3, 6]
    rows = [texts.index("b\x00"), texts.index("last")]
    assert line_faults(path, 0, rows, rejected, repr) == [
        BadLine(3, r"b'\xff'"), BadLine(5, r"b'b\x00'"), BadLine(6, r"b'\xfe'"), BadLine(7, "b'last'"),
    ]  # fmt: skip


def test_lines_after_a_header(tmp_path):
    path = tmp_path / "x"
    path.write_text("header\nbad\nfine\nworse\n")
    assert line_faults(path, 1, [0, 2], [], repr) == [BadLine(2, "b'bad'"), BadLine(4, "b'worse'")]


def test_a_line_that_is_too_long_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 1000)
    (tmp_path / "x").write_text("a\n" + "b" * 1500 + "\nc\n")
    assert table_of(tmp_path / "x") == (["a", "c"], [2])


def test_one_in_a_thousand_passes_and_more_does_not():
    check = LineCheck("x")
    check.add(1998, 2, [BadLine(7, "why"), BadLine(9, "else")])
    check.finish()
    check.add(0, 1, [BadLine(2001, "again")])
    with pytest.raises(InputError, match=r"x: 3 of 2,001 lines are malformed.*line 7: why.*--skip_bad"):
        check.finish()


def test_strict_stops_at_the_first_and_skip_never():
    with pytest.raises(InputError, match="x line 7: why"):
        LineCheck("x", "strict").add(5000, 2, [BadLine(7, "why"), BadLine(8, "why")])
    check = LineCheck("x", "skip")
    check.add(0, 1, [BadLine(7, "why")])
    check.add(1, 0, [])
    check.finish()
    assert (check.good, check.bad) == (1, 1)


def test_a_wrong_file_is_named_after_its_first_block():
    with pytest.raises(InputError, match="not the expected file"):
        LineCheck("x").add(0, 1, [BadLine(1, "why")])


def test_no_lines_at_all():
    with pytest.raises(InputError, match="holds no rows"):
        LineCheck("x", "skip").finish()


def test_times_out_of_this_world():
    assert time_fault(0) is time_fault(MAX_TIME) is None
    assert time_fault(-1) == "timestamp -1 is negative"
    assert time_fault(1_500_000_000_000) == "timestamp 1500000000000 is after the year 2100 if it is seconds"


def test_text_in_messages_is_short_and_on_one_line():
    assert shown(b"a\tb\xff\n") == r"'a\tb\xff\n'"
    assert shown("x" * 100, 3) == "'xxx...'"
    assert shown("\ud83d\x1b[31m") == r"'\ud83d\x1b[31m'"
