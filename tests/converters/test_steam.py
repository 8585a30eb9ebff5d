"""The walker of review literals against ast.literal_eval, which it may never disagree with."""

import ast
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_session.converters.rows import Block
from recbole_session.converters.steam import decode_string, parse_block

REVIEW = (
    "{u'username': u'Foo', u'hours': 0.1, u'products': 41, u'product_id': u'725280', u'page_order': 0, "
    "u'date': u'2017-12-17', u'text': u'%s', u'early_access': False, u'page': 1}"
)


def parse(*lines):
    return parse_block(Block("".join(f"{line}\n" for line in lines).encode(), 1))


def python2_repr(value):
    """What Python 2 wrote: ASCII only, a u before every string."""
    return f"u{value!a}" if isinstance(value, str) else repr(value)


def test_by_hand():
    rows, bad = parse(REVIEW % "fine")
    assert bad == []
    assert rows.users.tolist() == ["Foo"]
    assert rows.items.tolist() == ["725280"]
    assert rows.times.tolist() == [int(datetime(2017, 12, 17, tzinfo=UTC).timestamp())]
    assert rows.ratings.tolist() == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "u\\'date\\': u\\'1999-01-01\\'",
        "\\', u\\'date\\': u\\'1999-01-01\\', u\\'x\\': u\\'",
        '", u"date": u"1999-01-01", "x": "',
        "} {u\\'username\\': u\\'evil\\'}",
        "\\\\",
        "\\\\\\'",
        "\\U0001f600 \\ud83d \\xe9 \\n \\t",
        "\U0001f600 é",
        "__import__(\\'os\\').system(\\'true\\')",
    ],
)
def test_a_review_text_confuses_nothing(text):
    line = REVIEW % text
    expected = ast.literal_eval(line)
    for variant in (line, line.replace(": u'", ":  u'").replace("u'date'", 'u"date"')):
        rows, bad = parse(variant)
        assert bad == []
        assert rows.users.tolist() == [expected["username"]] == ["Foo"]
        assert rows.lines.tolist() == [1]
        assert rows.times.tolist() == [17517 * 86400]


def test_nothing_is_evaluated(tmp_path):
    target = tmp_path / "touched"
    call = f"__import__('pathlib').Path({str(target)!r}).touch()"
    rows, bad = parse(call, REVIEW.replace("0.1", call) % "x", "{u'username': " + call + "}")
    assert len(rows.lines) == 0
    assert [line for line, _ in bad] == [1, 2, 3]
    assert not target.exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{u'username': u'a', u'product_id': u'1'}", "date is missing"),
        ("{u'product_id': u'1', u'date': u'2017-01-01'}", "username is missing"),
        (REVIEW.replace("2017-12-17", "2017-02-30") % "", "date 'u'2017-02-30'' is no day of the calendar"),
        (REVIEW.replace("2017-12-17", "Dec 17") % "", "is not a date like"),
        (REVIEW.replace("u'Foo'", "5") % "", "username '5' is not a string"),
        (REVIEW.replace("u'Foo'", "u' '") % "", "username 'u' '' is empty"),
        (REVIEW.replace("u'Foo'", "u'\\x4'") % "", "holds a broken escape"),
        (REVIEW.replace("Foo", "x" * 2000) % "", "is longer than 1000 bytes"),
        ((REVIEW % "")[:-1], "not a literal"),
        (REVIEW % "a'b", "not a literal"),
        ("{}", "not a literal"),
        ("[1]", "not a literal"),
        ("{u'a': {u'username': u'x'}}", "not a literal"),
        (
            '{"username": "json", "product_id": "1", "date": "2017-01-01", "early_access": false}',
            "not a literal",
        ),
    ],
)
def test_a_malformed_line_and_its_neighbours(line, reason):
    rows, bad = parse(REVIEW % "before", line, "", REVIEW % "after")
    assert rows.lines.tolist() == [1, 4]
    assert [number for number, _ in bad] == [2]
    assert reason in bad[0].reason


def test_bytes_that_are_not_utf8():
    line = (REVIEW % "x").encode().replace(b"Foo", b"F\xffo") + b"\n"
    rows, bad = parse_block(Block(line, 1))
    assert len(rows.lines) == 0
    assert "not UTF-8" in bad[0].reason


def test_the_last_of_equal_keys_wins_in_either_quotes():
    for keys in (("'username'", '"username"'), ('"username"', "'username'"), ("u'username'", "u'username'")):
        line = f"{{{keys[0]}: 'first', 'product_id': '1', 'date': '2017-01-01', {keys[1]}: 'second'}}"
        assert parse(line)[0].users.tolist() == ["second"] == [ast.literal_eval(line)["username"]]


literals = st.text(
    alphabet=st.sampled_from(list("ab'\"\\{}:,u\n\t0é\U0001f600\ud83d \x85\u2028")) | st.characters(),
    max_size=12,
)
scalars = literals | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
keys = literals.filter(lambda key: key.isascii() and key.isprintable() and not set(key) & set("'\"\\"))


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(keys, scalars, max_size=4),
    literals.filter(lambda text: text.strip() and len(text) < 40),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_what_python_writes_reads_back(others, user, python2, random):
    review = {**others, "username": user, "product_id": "7", "date": "2011-01-02"}
    pairs = list(review.items())
    random.shuffle(pairs)
    write = python2_repr if python2 else repr
    line = "{" + ", ".join(f"{write(key)}: {write(value)}" for key, value in pairs) + "}"
    if any(0xD800 <= ord(character) <= 0xDFFF for character in line):
        return  # no file holds a bare half of a pair
    rows, bad = parse_block(Block(line.encode() + b"\n", 1))
    assert bad == []
    assert rows.users.tolist() == [user] == [ast.literal_eval(line)["username"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_what_it_accepts_python_reads_the_same(data):
    """Mutated lines: refused, or read exactly as ast.literal_eval reads them."""
    line = list(REVIEW % "it is \\'u\\' \\\\ \\x41")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(line) - 1))
        piece = data.draw(st.sampled_from(["", "'", '"', "\\", "u", ",", ":", " ", "{", "}", "u'date': ", "é", "0"]))
        line[place : place + data.draw(st.integers(0, 2))] = [piece]
    text = "".join(line)
    rows, bad = parse_block(Block(text.encode() + b"\n", 1))
    assert len(rows.lines) + len(bad) == 1
    if not bad:
        try:
            expected = ast.literal_eval(text.strip())
        except SyntaxError as error:  # a broken escape in a field that the converter has no use for
            assert "unicode error" in str(error)
            return
        assert rows.users.tolist() == [expected["username"]]
        assert rows.items.tolist() == [expected["product_id"]]
        day = datetime.fromisoformat(expected["date"]).replace(tzinfo=UTC)
        assert rows.times.tolist() == [int(day.timestamp())]


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="\\xuUN{}0123456789abcdefnrt'\" é", max_size=12))
@example("\\N{BULLET}")
@example("\\N{no such thing}")
@example("\\U00110000")
@example("\\é\\777\\8")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_escapes_as_python_reads_them(body):
    literal = f"u'{body}'"
    try:
        expected = ast.literal_eval(literal)
    except (SyntaxError, ValueError):
        return
    if isinstance(expected, str) and "'" not in body.replace("\\'", ""):
        assert decode_string(literal.encode()) == expected


def test_time_is_linear_in_a_hostile_line():
    """Many equal keys and no end: a pattern with two ways to match would take for ever."""
    import time

    started = time.perf_counter()
    _, bad = parse("{" + "u'username': u'a', " * 20_000, "{" + "'a': " * 20_000, "{'a': '" + "\\'" * 100_000)
    assert len(bad) == 3
    assert time.perf_counter() - started < 5
