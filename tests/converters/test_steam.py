"""The walker of review literals against ast.literal_eval, which it may never disagree with."""

import ast
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_session.converters import steam
from recbole_session.converters.sources import Source
from recbole_session.converters.steam import SteamReader, decode_string, map_in_order, parse_block
from recbole_session.errors import InputError

REVIEW = (
    "{u'username': u'Foo', u'hours': 0.1, u'products': 41, u'product_id': u'725280', u'page_order': 0, "
    "u'date': u'2017-12-17', u'text': u'%s', u'early_access': False, u'page': 1}"
)


class Reviews(NamedTuple):
    users: list
    items: list
    times: list
    bad: list


def parse(*lines):
    return parse_bytes("".join(f"{line}\n" for line in lines).encode())


def parse_bytes(data):
    rows, n_rows, bad = parse_block(data, 1)
    fields = [line.split("\t") for line in rows.decode().split("\n")[:-1]]
    assert len(fields) == n_rows
    users, items, times = ([row[place] for row in fields] for place in range(3))
    users, items = ([unquote(token, errors="surrogatepass") for token in tokens] for tokens in (users, items))
    return Reviews(users, items, [int(time) for time in times], bad)


def python2_repr(value):
    """What Python 2 wrote: ASCII only, a u before every string."""
    return f"u{value!a}" if isinstance(value, str) else repr(value)


def test_by_hand():
    midnight = int(datetime(2017, 12, 17, tzinfo=UTC).timestamp())
    assert parse(REVIEW % "fine") == (["Foo"], ["725280"], [midnight], [])


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
        rows = parse(variant)
        assert rows.bad == []
        assert rows.users == [expected["username"]] == ["Foo"]
        assert rows.times == [17517 * 86400]


def test_nothing_is_evaluated(tmp_path):
    target = tmp_path / "touched"
    call = f"__import__('pathlib').Path({str(target)!r}).touch()"
    rows = parse(call, REVIEW.replace("0.1", call) % "x", "{u'username': " + call + "}")
    assert rows.users == []
    assert [line for line, _ in rows.bad] == [1, 2, 3]
    assert not target.exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{u'username': u'a', u'product_id': u'1'}", "date is missing"),
        ("{u'product_id': u'1', u'date': u'2017-01-01'}", "username is missing"),
        (REVIEW.replace("2017-12-17", "2017-02-30") % "", "date 'u'2017-02-30'' is not a day of the calendar"),
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
    rows = parse(REVIEW % "before", line, "", REVIEW % "after")
    assert len(rows.users) == 2
    assert [number for number, _ in rows.bad] == [2]
    assert reason in rows.bad[0].reason


def test_bytes_that_are_not_utf8():
    line = (REVIEW % "x").encode().replace(b"Foo", b"F\xffo") + b"\n"
    rows = parse_bytes(line)
    assert rows.users == []
    assert "not UTF-8" in rows.bad[0].reason


def test_the_last_of_equal_keys_wins_in_either_quotes():
    for keys in (("'username'", '"username"'), ('"username"', "'username'"), ("u'username'", "u'username'")):
        line = f"{{{keys[0]}: 'first', 'product_id': '1', 'date': '2017-01-01', {keys[1]}: 'second'}}"
        assert parse(line).users == ["second"] == [ast.literal_eval(line)["username"]]


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
    rows = parse(line)
    assert rows.bad == []
    assert rows.users == [user] == [ast.literal_eval(line)["username"]]


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
    rows = parse(text)
    assert len(rows.users) + len(rows.bad) == 1
    if not rows.bad:
        try:
            expected = ast.literal_eval(text.strip())
        except SyntaxError as error:  # a broken escape in a field that the converter has no use for
            assert "unicode error" in str(error)
            return
        assert rows.users == [expected["username"]]
        assert rows.items == [expected["product_id"]]
        day = datetime.fromisoformat(expected["date"]).replace(tzinfo=UTC)
        assert rows.times == [int(day.timestamp())]


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
    started = time.perf_counter()
    bad = parse("{" + "u'username': u'a', " * 20_000, "{" + "'a': " * 20_000, "{'a': '" + "\\'" * 100_000).bad
    assert len(bad) == 3
    assert time.perf_counter() - started < 5


def square(number):
    return number * number, os.getpid()


def fail(number):
    raise ValueError(number)


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(steam.os, "cpu_count", lambda: 2)


def test_order_and_processes(two_cores):
    results = list(map_in_order(square, zip(range(50)), parallel=True))
    assert [result for result, _ in results] == [number * number for number in range(50)]
    assert os.getpid() not in {process for _, process in results}
    assert {process for _, process in map_in_order(square, zip(range(3)), parallel=False)} == {os.getpid()}


def test_tasks_are_taken_a_few_at_a_time(two_cores):
    taken = []
    results = map_in_order(square, (taken.append(number) or (number,) for number in range(100)), parallel=True)
    next(results)
    assert len(taken) <= 5
    results.close()


def test_an_error_in_a_worker_arrives(two_cores):
    with pytest.raises(ValueError, match="0"):
        list(map_in_order(fail, zip(range(9)), parallel=True))


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_sentence(two_cores):
    with pytest.raises(InputError, match="a worker process was killed"):
        list(map_in_order(die, zip(range(9)), parallel=True))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the worker in /proc")
def test_workers_leave_with_a_killed_parent():
    script = """
import os, signal
from recbole_session.converters import steam
steam.os.cpu_count = lambda: 2
results = steam.map_in_order(steam.os.getpgid, [(0,)] * 9, parallel=True)
next(results)
print(steam.multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    worker = int(subprocess.run(command, check=False, env=environment, stdout=subprocess.PIPE).stdout)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("a worker outlived its killed parent by ten seconds")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_steam_in_parallel_reads_the_same(load, tmp_path, monkeypatch, two_cores, end):
    lines = [
        f"{{u'username': u'u {n % 97}', u'product_id': u'{n % 13}', u'date': u'2017-01-{n % 28 + 1:02}'}}{end}"
        for n in range(40_000)
    ]
    lines[20_000] = f"damaged{end}"
    path = tmp_path / "steam_reviews.json"
    path.write_text("".join(lines), newline="")
    read = {}
    for limit in (0, 1 << 60):
        monkeypatch.setattr(steam, "PARALLEL_BYTES", limit)
        read[limit] = load(lambda check: SteamReader(Source(path), check), path)
        assert (read[limit].good, [line for line, _ in read[limit].bad]) == (39_999, [20_001])
    assert read[0] == read[1 << 60]
