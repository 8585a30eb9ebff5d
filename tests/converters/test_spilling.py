"""A log that goes through files gives the bytes and the counts of one that stays in memory."""

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_session.converters import convert, pieces, spilling
from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.rows import Rows
from recbole_session.converters.spilling import prepare_in_runs
from recbole_session.converters.thresholds import Thresholds
from recbole_session.converters.tokens import CodedRows
from recbole_session.converters.writing import write_inter
from recbole_session.errors import InputError
from tests.converters.test_pipeline import thresholds_strategy

IN_MEMORY = {"RUN_ROWS": 10**9}
TINY = {"RUN_ROWS": 40, "FAN_OUT": 5, "BUCKET_BYTES": 600, "CHUNK_ROWS": 8}
SMALL = {"RUN_ROWS": 700, "FAN_OUT": 9, "BUCKET_BYTES": 8000}
LOOSE = Thresholds(min_item_rows=1, min_user_rows=1, min_sessions=1, min_rows_per_session=1)

ODD_NAMES = ["NA", "%", "a\tb", "a b", "é", "\ud83d", "", "x" * 300, "7", "07"]
rows_strategy = st.lists(
    st.tuples(
        st.integers(0, 12).map(lambda number: ODD_NAMES[number] if number < 10 else f"user {number}"),
        st.integers(0, 5).map(str),
        st.sampled_from([0.5, 3.0, 4.0]),
        st.integers(0, 30),  # so few seconds that ties and whole repetitions are common
    ),
    min_size=1,
    max_size=80,
)
constants_strategy = st.fixed_dictionaries(
    {
        "RUN_ROWS": st.integers(1, 25),
        "FAN_OUT": st.integers(2, 20),
        "BUCKET_BYTES": st.sampled_from([1, 300, 1 << 20]),
        "CHUNK_ROWS": st.integers(1, 20),
    }
)


def blocks(rows, size=7):
    """Rows (user, item, rating, time) as a reader hands them on."""
    for start in range(0, len(rows), size):
        users, items, ratings, times = zip(*rows[start : start + size], strict=True)
        columns = np.array([*users, *items, None], dtype=object)[:-1].reshape(2, -1)
        yield Rows(*columns, np.array(ratings), np.array(times), np.arange(start, start + len(users)))


def set_constants(patch, constants):
    for name, value in constants.items():
        for module in (spilling, pieces):
            if hasattr(module, name):
                patch.setattr(module, name, value)


def outcome(rows, thresholds, folder, constants, size=7):
    """Return the written file and the counts, and the files that the preprocessing left for the writer."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        set_constants(patch, constants)
        coded = CodedRows(blocks(rows, size))
        prepared = prepare_in_runs(coded, thresholds, folder)
        spilled = sorted(path.name for path in folder.iterdir())
        path = folder / "x.inter"
        write_inter(path, prepared.chunks, coded.users.tokens(), coded.items.tokens())
    return path.read_bytes(), prepared.counts, spilled


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_strategy, st.just(LOOSE) | thresholds_strategy, constants_strategy)
def test_the_same_bytes_and_counts(tmp_path_factory, rows, thresholds, constants):
    folder = tmp_path_factory.mktemp("spilling")
    expected = outcome(rows, thresholds, folder / "memory", IN_MEMORY)
    result = outcome(rows, thresholds, folder / "files", constants)
    assert result[:2] == expected[:2]
    assert expected[2] == []


def test_by_hand(tmp_path):
    # b appears first, by a row that is rated low, so b comes first in the file; c has low ratings only
    rows = [("b", "x", 1.0, 50), ("a", "x", 5.0, 7), ("c", "y", 1.0, 7), ("a", "y", 5.0, 7), ("b", "x", 5.0, 9)]
    data, counts, spilled = outcome(
        rows, Thresholds(4.0, 2, 1, 9, 0, 1, 1), tmp_path / "files", {"RUN_ROWS": 1}, size=1
    )
    assert data.decode().splitlines()[1:] == ["b\tx\t5.0\t9\t1", "a\tx\t5.0\t7\t2"]
    assert [tuple(count) for count in counts] == [
        ("read", 5, 3, 2),
        ("min_rating", 3, 2, 2),
        ("min_item_rows", 2, 2, 1),
        ("min_user_rows", 2, 2, 1),
        ("max_rows_per_user", 2, 2, 1),
        ("sessions", 2, 2, 1),
    ]
    assert spilled == ["ranks-000"]


def some_log(n_rows, n_users, seed=0):
    random = np.random.default_rng(seed)
    columns = [
        random.integers(0, n_users, n_rows), random.zipf(1.5, n_rows) % 50, random.integers(1, 6, n_rows),
        random.integers(0, 100, n_rows) * 40_000,
    ]  # fmt: skip
    return [(f"u{u}", f"i{i}", float(r), t) for u, i, r, t in zip(*(c.tolist() for c in columns), strict=True)]


@pytest.mark.parametrize(
    "constants",
    [
        {"RUN_ROWS": 3000},  # exactly as long as the log
        {"RUN_ROWS": 100, "FAN_OUT": 256},  # more partitions than users
        {"RUN_ROWS": 100, "FAN_OUT": 1},  # one partition for everybody
        {"RUN_ROWS": 500, "FAN_OUT": 2, "BUCKET_BYTES": 1},  # scattered down to single users
        TINY,
    ],
)
@pytest.mark.parametrize("thresholds", [LOOSE, Thresholds(2.0, 8, 12, 30, 86_400, 2, 1)])
def test_shapes(tmp_path, constants, thresholds):
    rows = some_log(3000, 150)
    expected = outcome(rows, thresholds, tmp_path / "memory", IN_MEMORY)
    result = outcome(rows, thresholds, tmp_path / "files", constants)
    assert result[:2] == expected[:2]
    assert expected[0].count(b"\n") > 1000
    assert len(result[2]) > 0


@pytest.mark.parametrize("min_user_rows", [5, 70])
def test_one_user_with_all_rows_is_not_held_whole(tmp_path, monkeypatch, min_user_rows):
    """Rows beyond the latest go while reading, but are counted, also when the step on users asks for more."""
    rows = some_log(5000, 1)
    thresholds = Thresholds(min_item_rows=20, min_user_rows=min_user_rows, max_rows_per_user=30, min_sessions=1,
                            min_rows_per_session=1)  # fmt: skip
    expected = outcome(rows, thresholds, tmp_path / "memory", IN_MEMORY)
    held = []
    finish_users = spilling.finish_users
    monkeypatch.setattr(spilling, "finish_users", lambda log, *rest: held.append(log) or finish_users(log, *rest))
    result = outcome(rows, thresholds, tmp_path / "files", TINY)
    assert result[:2] == expected[:2]
    assert expected[1][3].rows > 4000 and expected[1][3].items > expected[1][4].items
    assert [len(log.users) < 400 for log in held] == [True]


def test_memory_does_not_grow_with_rows_and_users(tmp_path):
    """Four times the rows and the users: the peak stays, but for what is the same for any longer log."""

    def peak(n_rows, constants):
        random = np.random.default_rng(1)

        def read():  # made while it is read, as from a file
            for start in range(0, n_rows, 500):
                users = np.array([f"user {user}" for user in random.integers(0, n_rows // 4, 500)], dtype=object)
                items = np.array([f"item {item}" for item in random.integers(0, 100, 500)], dtype=object)
                yield Rows(users, items, np.ones(500), random.integers(0, 10**9, 500), np.arange(start, start + 500))

        folder = tmp_path / f"{n_rows}-{len(constants)}"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            set_constants(patch, constants)
            coded = CodedRows(read())
            tracemalloc.start()
            try:
                prepared = prepare_in_runs(coded, LOOSE, folder)
                tokens = coded.users.tokens(), coded.items.tokens()
                assert write_inter(folder / "x", prepared.chunks, *tokens).rows == n_rows
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    small = {"RUN_ROWS": 2000, "FAN_OUT": 8, "BUCKET_BYTES": 1 << 16, "CHUNK_ROWS": 1000}
    peak(4_000, small)  # what is allocated once for all
    growth, growth_in_memory = (peak(40_000, constants) - peak(10_000, constants) for constants in (small, IN_MEMORY))
    assert growth_in_memory > 6e6
    assert growth < 5e5  # Python's own lists of free objects; 30,000 rows have 720,000 bytes in four columns


def steam_file(path, n_lines=3000):
    names = ["it's", '"', "\\", "é", "{}", "NA", "a, u'date': u'1999-01-01'"]
    days = [f"201{year}-{month:02}-11" for year in (1, 2) for month in (1, 2, 3)]
    lines = [
        f"{{u'username': {names[user % 7] + str(user // 7)!r}, u'product_id': {item!r}, 'date': {day!r}}}\n"
        for user, item, day in ((int(user[1:]), item, days[time % 6]) for user, item, _, time in some_log(n_lines, 300))
    ]
    path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("name", ["ml-100k", "steam"])
def test_the_same_dataset_and_card(tmp_path, monkeypatch, name):
    raw = None
    if name == "steam":
        raw = tmp_path / "steam_reviews.json"
        steam_file(raw)
    flags = {"all_users": name == "ml-100k", "min_rows_per_session": 1, "max_rows_per_user": 60}
    convert(name, raw, tmp_path / "memory", **flags)
    set_constants(monkeypatch, SMALL)
    convert(name, raw, tmp_path / "files", **flags)
    for file in (f"{name}.inter", "dataset.json"):
        expected, result = ((tmp_path / way / name / file).read_bytes() for way in ("memory", "files"))
        assert result == expected
        assert expected.count(b"\n") > 50
    assert [path.name for path in (tmp_path / "files").iterdir()] == [name]


def test_the_real_rows_stay_the_same(ml_1m_part, tmp_path, monkeypatch):
    monkeypatch.setattr(spilling, "RUN_ROWS", 10**9)
    expected = run_conversion("ml-1m", ml_1m_part, tmp_path / "memory")
    monkeypatch.setattr(spilling, "RUN_ROWS", 50_000)
    result = run_conversion("ml-1m", ml_1m_part, tmp_path / "files")
    assert result.card == expected.card
    assert result.path.read_bytes() == expected.path.read_bytes()


def test_nothing_left_is_the_same_sentence(tmp_path, monkeypatch):
    steam_file(tmp_path / "raw.json")
    flags = ({"min_rating": 2.0}, {"min_item_rows": 10**6}, {"min_user_rows": 10**6}, {"min_sessions": 50})
    sentences = []
    for way in ("memory", "files"):
        if way == "files":
            set_constants(monkeypatch, SMALL)
        for flag in flags:
            with pytest.raises(InputError, match="none is left after the step") as refused:
                convert("steam", tmp_path / "raw.json", tmp_path / way, **flag)
            sentences.append(str(refused.value))
        assert not (tmp_path / way).exists()
    assert sentences[:4] == sentences[4:]
    assert len(set(sentences)) == 4


def test_a_bad_line_late_in_the_file_leaves_nothing(tmp_path, monkeypatch):
    set_constants(monkeypatch, SMALL)
    steam_file(tmp_path / "raw.json")
    with (tmp_path / "raw.json").open("a") as stream:
        stream.write("damaged\n" * 9)
    with pytest.raises(InputError, match="9 of 3,009 lines are malformed"):
        convert("steam", tmp_path / "raw.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    set_constants(monkeypatch, SMALL)
    steam_file(tmp_path / "raw.json")
    opened, original = [], Path.open

    def full(self, mode="r", *rest, **keywords):
        if mode == "ab":
            opened.append(self)
            if len(opened) > 20:
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, mode, *rest, **keywords)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=r"--data_path .*out has no room .*No space left on device"):
        convert("steam", tmp_path / "raw.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("place", ["scatter", "_convert_partition", "finish_users", "small_files"])
def test_kill_9_leaves_the_old_dataset_and_the_next_conversion_cleans_up(tmp_path, place):
    convert("ml-100k", None, tmp_path, session_gap=60)
    old = (tmp_path / "ml-100k" / "ml-100k.inter").read_bytes()
    script = f"""
import os, signal
from recbole_session.converters import conversion
from recbole_session.converters import spilling
spilling.RUN_ROWS, calls, original = 9000, [], spilling.{place}
def deadly(*args):
    calls.append(1)
    if len(calls) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)
spilling.{place} = deadly
conversion.run_conversion("ml-100k", None, {str(tmp_path)!r})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script], check=False, env=environment)
    assert result.returncode == -signal.SIGKILL
    assert (tmp_path / "ml-100k" / "ml-100k.inter").read_bytes() == old
    (abandoned,) = tmp_path.glob(".converting-*")
    assert list(abandoned.glob("*-0*"))  # the files of users or those of ranks
    convert("ml-100k", None, tmp_path, session_gap=60)
    assert [path.name for path in tmp_path.iterdir()] == ["ml-100k"]
    assert (tmp_path / "ml-100k" / "ml-100k.inter").read_bytes() == old


@pytest.mark.parametrize("with_sessions", [False, True])
def test_pieces_come_back(tmp_path, with_sessions):
    written = []
    for n_users, n_rows in ((1, 0), (3, 5), (2, 1)):
        tokens = np.array([*(f"ü{user}".encode() for user in range(n_users)), None], dtype=object)[:-1]
        numbers = np.arange(n_rows)
        codes = numbers.astype(np.int32)
        log = pieces.Log(codes % n_users, codes + 9, numbers / 3, numbers * 10**12)
        if with_sessions:
            log = log._replace(sessions=numbers + 1)
        written.append(pieces.Piece(tokens, np.arange(n_users) + 10**10, log))
        pieces.append_piece(tmp_path / "x", written[-1])
    for piece, read in zip(written, pieces.read_pieces(tmp_path / "x"), strict=True):
        assert read.tokens.tolist() == piece.tokens.tolist()
        assert read.ranks.tolist() == piece.ranks.tolist()
        for column, expected in zip(read.log, piece.log, strict=True):
            assert column.tolist() == expected.tolist()
            assert column.dtype == expected.dtype or not len(expected)
            assert column.flags.aligned
