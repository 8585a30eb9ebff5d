"""Blocks of lines, and when malformed lines are too many."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_session.converters import rows as rows_module
from recbole_session.converters.rows import MAX_TIME, BadLine, LineCheck, Rows, read_blocks, shown
from recbole_session.errors import InputError


def make_rows(n, times=None):
    lines = np.arange(1, n + 1)
    return Rows(lines, lines, np.ones(n), np.zeros(n, dtype=np.int64) if times is None else times, lines)


@given(
    st.lists(st.text(alphabet="ab\r", max_size=5).map(lambda line: line.rstrip("\r")), min_size=1),
    st.integers(1, 9),
)
def test_blocks_are_whole_lines_in_order(lines, size):
    for end in (b"\n", b"\r\n"):
        data = end.join(line.encode() for line in lines) + end
        blocks = list(read_blocks(io.BytesIO(data), "x", size))
        assert b"".join(block.data for block in blocks).replace(b"\r\n", b"\n") == data.replace(b"\r\n", b"\n")
        number = 1
        for block in blocks:
            assert block.data.endswith(b"\n")
            assert block.first_line == number
            number += block.data.count(b"\n")


def test_a_last_line_without_an_end_and_a_byte_order_mark():
    blocks = list(read_blocks(io.BytesIO(b"\xef\xbb\xbfa\nb"), "x"))
    assert [tuple(block) for block in blocks] == [(b"a\n", 1), (b"b\n", 2)]


def test_no_blocks(monkeypatch):
    with pytest.raises(InputError, match="x is empty"):
        list(read_blocks(io.BytesIO(b""), "x"))
    with pytest.raises(InputError, match="UTF-16"):
        list(read_blocks(io.BytesIO("a\n".encode("utf-16")), "x"))
    monkeypatch.setattr(rows_module, "MAX_LINE_BYTES", 10)
    with pytest.raises(InputError, match="x line 2 is longer"):
        list(read_blocks(io.BytesIO(b"a\n" + b"b" * 20), "x", 4))


def test_one_in_a_thousand_passes_and_more_does_not():
    check = LineCheck("x")
    check.add(make_rows(1998), [BadLine(7, "why"), BadLine(9, "else")])
    check.finish()
    check.add(make_rows(0), [BadLine(2001, "again")])
    with pytest.raises(InputError, match=r"x: 3 of 2,001 lines are malformed.*line 7: why.*--skip_bad"):
        check.finish()


def test_strict_stops_at_the_first_and_skip_never():
    with pytest.raises(InputError, match="x line 7: why"):
        LineCheck("x", "strict").add(make_rows(5000), [BadLine(7, "why"), BadLine(8, "why")])
    check = LineCheck("x", "skip")
    check.add(make_rows(0), [BadLine(7, "why")])
    check.add(make_rows(1), [])
    check.finish()
    assert (check.good, check.bad) == (1, 1)


def test_a_wrong_file_is_told_after_its_first_block():
    with pytest.raises(InputError, match="not the file that was expected"):
        LineCheck("x").add(make_rows(0), [BadLine(1, "why")])


def test_no_lines_at_all():
    with pytest.raises(InputError, match="holds no rows"):
        LineCheck("x", "skip").finish()


def test_times_out_of_this_world():
    times = np.array([0, -1, MAX_TIME, MAX_TIME + 1, 1_500_000_000_000])
    check = LineCheck("x", "skip")
    kept = check.add(make_rows(5, times), [BadLine(3, "why")])
    assert kept.times.tolist() == [0, MAX_TIME]
    assert check.first == [
        BadLine(2, "timestamp -1 is negative"),
        BadLine(3, "why"),
        BadLine(4, f"timestamp {MAX_TIME + 1} is after the year 2100 if it is seconds"),
        BadLine(5, "timestamp 1500000000000 is after the year 2100 if it is seconds"),
    ]


def test_text_in_messages_is_short_and_on_one_line():
    assert shown(b"a\tb\xff\n") == r"'a\tb\xff\n'"
    assert shown("x" * 100, 3) == "'xxx...'"
    assert shown("\ud83d\x1b[31m") == r"'\ud83d\x1b[31m'"
