"""The grammar of MovieLens lines: what it accepts reads as Python reads it, and every malformed line has its reason."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_session.converters.datasets import DATASETS
from recbole_session.converters.movielens import GRAMMAR, MovieLensReader
from recbole_session.converters.sources import Source

DAT = DATASETS["ml-1m"].layout
TAB = DATASETS["ml-100k"].layout


@pytest.fixture
def parse(load, tmp_path):
    def read(data, layout):
        (tmp_path / "x").write_bytes(data)
        return load(lambda check: MovieLensReader(Source(tmp_path / "x"), layout, True), tmp_path / "x")

    return read


@pytest.mark.parametrize(("name", "separator"), [("ml-1m", b"::"), ("ml-20m", b","), ("ml-100k", b"\t")])
def test_by_hand(parse, name, separator):
    layout = DATASETS[name].layout
    header = [layout.headers[0].encode()] if layout.headers else []
    lines = [*header, *(separator.join(line.split()) for line in (b"1 1193 5 978300760", b"007 2 3.5 0"))]
    columns, bad, _ = parse(b"\n".join(lines) + b"\n", layout)
    assert bad == []
    assert columns[:5] == [[1, 7], [1193, 2], [5.0, 3.5], [978300760, 0], [0, 1]]


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
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_malformed_line_and_its_neighbours(parse, line, reason, end):
    columns, bad, _ = parse(end.join((b"1::2::3::4", line, b"", b"5::6::4.5::8")), DAT)
    assert [number for number, _ in bad] == [2]
    assert reason in bad[0].reason
    assert columns[:4] == [[1, 5], [2, 6], [3.0, 4.5], [4, 8]]


def test_a_comma_is_not_a_separator_of_a_tab_file(parse):
    columns, bad, _ = parse(b"1,2\t3\t4\n1\t2\t3\t4\n", TAB)
    assert len(bad) == 1
    assert columns[0] == [1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="0127,.-xe ", min_size=1, max_size=24), max_size=20))
def test_lines_are_accepted_by_the_grammar_and_numbers_read_as_python_reads_them(parse, lines):
    good = ["1,2,3,4", "18,007,3.,5", "3,4,0.3000001,12"]
    lines = ["userId,movieId,rating,timestamp", *lines, *good]
    pattern = re.compile(",".join(GRAMMAR))
    matching = [
        line.split(",") for line in lines if pattern.fullmatch(line) and int(line.split(",")[3]) <= 4_102_444_800
    ]
    columns, _, good = parse("\n".join(lines).encode(), DATASETS["ml-20m"].layout)
    assert good == len(matching)
    assert columns[0] == [int(fields[0]) for fields in matching]
    assert columns[2] == [float(fields[2]) for fields in matching]
    assert columns[3] == [int(fields[3]) for fields in matching]
