"""The digit parser against Python's own numbers, and every malformed line with its reason."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_session.converters.datasets import DATASETS
from recbole_session.converters.movielens import GRAMMAR, Layout, _parse_numbers, parse_block
from recbole_session.converters.rows import Block

DAT = DATASETS["ml-1m"].layout
CSV = DATASETS["ml-20m"].layout
TAB = DATASETS["ml-100k"].layout


def columns(rows):
    return [column.tolist() for column in rows]


@pytest.mark.parametrize(("layout", "separator"), [(DAT, b"::"), (CSV, b","), (TAB, b"\t")])
def test_by_hand(layout, separator):
    data = b"".join(separator.join(line.split()) + b"\n" for line in (b"1 1193 5 978300760", b"007 2 3.5 0"))
    rows, bad = parse_block(Block(data, 11), layout)
    assert bad == []
    assert columns(rows) == [[1, 7], [1193, 2], [5.0, 3.5], [978300760, 0], [11, 12]]
    assert [column.dtype for column in rows] == [np.int64, np.int64, np.float64, np.int64, np.int64]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1::2::3", "found 3 fields, expected 4, in '1::2::3'"),
        (b"1::2::3::4::5", "found 5 fields"),
        (b"1::2::3::-4", "timestamp '-4' is not a non-negative whole number"),
        (b"1::2::3::4.5", "timestamp '4.5'"),
        (b"1::2::::4", "rating '' is not a non-negative number"),
        (b"1::2::1.2.3::4", "rating '1.2.3'"),
        (b"1.0::2::3::4", "user '1.0'"),
        (b"1::2e1::3::4", "item '2e1'"),
        (b"1::2::nan::4", "rating 'nan'"),
        (b"1::2::3::1234567890123456789", "timestamp '1234567890123456789'"),
        (b"1::\xff::3::4", r"item '\xff'"),
        (b"1,2::3::4::5", "user '1,2'"),
        (b"1:2:3:4", "found 1 fields"),
        (b" 1::2::3::4", "user ' 1'"),
        (b"1::2::3::4\x00", r"timestamp '4\x00'"),
        ("1::2::3::\u0664".encode(), "timestamp '\u0664'"),
    ],
)
def test_a_malformed_line_and_its_neighbours(line, reason):
    rows, bad = parse_block(Block(b"1::2::3::4\n" + line + b"\n\n5::6::4.5::8\n", 1), DAT)
    assert [number for number, _ in bad] == [2]
    assert reason in bad[0].reason
    assert columns(rows) == [[1, 5], [2, 6], [3.0, 4.5], [4, 8], [1, 4]]


def test_a_comma_is_no_separator_of_a_tab_file():
    rows, bad = parse_block(Block(b"1,2\t3\t4\n1\t2\t3\t4\n", 1), TAB)
    assert len(bad) == 1
    assert columns(rows)[4] == [2]


# The two readings of the grammar, digits by numpy and a pattern by re, must agree on every line.
@settings(max_examples=600, deadline=None)
@given(st.lists(st.text(alphabet="0127,.\n-x", max_size=24), max_size=4))
@example(["1,2,3,4", "1,2,3.5,4"])
@example(["1,2,3.,4"])
@example(["1,2,.5,4"])
@example(["1,2,3.5.,4"])
@example([",,,"])
def test_the_fast_parser_accepts_what_the_pattern_accepts(pieces):
    data = "".join(f"{piece}\n" for piece in pieces).encode()
    lines = data.split(b"\n")[:-1]
    pattern = re.compile(b",".join(GRAMMAR))
    parsed = _parse_numbers(data)
    assert (parsed is not None) == all(pattern.fullmatch(line) for line in lines)
    if parsed is not None:
        fields = [line.split(b",") for line in lines]
        assert parsed[0].tolist() == [int(field[0]) for field in fields]
        assert parsed[2].tolist() == [float(field[2]) for field in fields]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**18 - 1),
            st.integers(0, 10**18 - 1),
            st.from_regex(r"[0-9]{1,8}(\.[0-9]{0,7})?", fullmatch=True).filter(str.isascii),
            st.integers(0, 10**18 - 1),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_digits_give_what_python_reads(rows):
    data = "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in rows).encode()
    users, items, ratings, times = _parse_numbers(data)
    assert users.tolist() == [row[0] for row in rows]
    assert items.tolist() == [row[1] for row in rows]
    assert ratings.tolist() == [float(row[2]) for row in rows]
    assert times.tolist() == [row[3] for row in rows]


def test_no_lines():
    rows, bad = parse_block(Block(b"\n\n", 1), Layout(b","))
    assert (columns(rows), bad) == ([[]] * 5, [])
