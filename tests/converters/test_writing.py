"""The .inter file byte by byte, and conversions that are interrupted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.converters import convert
from recbole_session.converters.engine import open_database, write_inter
from recbole_session.converters.writing import publish, scratch_folder
from recbole_session.errors import InputError

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\tsession_id:token\n"


def test_the_file_by_hand(tmp_path):
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE raw_rows (line INT, user_id VARCHAR)")
        connection.execute("INSERT INTO raw_rows VALUES (0, 'user é'), (1, '7'), (2, '#x')")
        connection.execute(
            "CREATE TABLE sessions "
            "(line INT, user_id VARCHAR, item_id VARCHAR, rating DOUBLE, seconds BIGINT, session INT)"
        )
        connection.execute(
            "INSERT INTO sessions VALUES (9, '7', 'i', 5.0, 11, 2), (0, 'user é', 'long item', 5.0, 0, 1), "
            "(8, 'user é', 'i', 3.5, 7, 1), (5, '7', 'i', 0.1, 10, 1), (7, 'user é', 'i', 1e20, 978300760, 2), "
            "(3, 'user é', ' i', -0.25, 978300760, 2)"
        )
        write_inter(connection, tmp_path / "x")
    assert (tmp_path / "x").read_text(encoding="utf-8") == HEADER + (
        "user é\tlong item\t5.0\t0\t1\n"
        "user é\ti\t3.5\t7\t1\n"
        "user é\t i\t-0.25\t978300760\t2\n"
        "user é\ti\t1e+20\t978300760\t2\n"
        "7\ti\t0.1\t10\t3\n"
        "7\ti\t5.0\t11\t4\n"
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_ratings_are_written_as_python_writes_them(ratings):
    with duckdb.connect() as connection:
        texts = connection.execute("SELECT CAST(unnest(?::DOUBLE[]) AS VARCHAR)", [ratings]).fetchall()
    assert [text for (text,) in texts] == [repr(rating) for rating in ratings]


def test_the_scratch_folder_goes_and_takes_what_it_made_along(tmp_path):
    with pytest.raises(RuntimeError), scratch_folder(tmp_path / "a" / "b") as scratch:
        (scratch / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_abandoned_scratch_folders_are_removed_and_those_in_use_are_not(tmp_path):
    abandoned = tmp_path / ".converting-abandoned"
    abandoned.mkdir()
    (abandoned / "half").write_text("x")
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert not abandoned.exists()
        assert first.exists() and second.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(InputError, match=r"--data_path .* cannot be written"),
        scratch_folder(tmp_path / "file" / "x"),
    ):
        pass


def test_a_card_never_belongs_to_other_data(tmp_path, monkeypatch):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "d.inter").write_text("old")
    (folder / "dataset.json").write_text("old card")
    (tmp_path / "d.inter").write_text("new")
    replaced = []

    def killed(self, target):
        replaced.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path, folder, "d")
    assert (folder / "d.inter").read_text() == "old"
    assert not (folder / "dataset.json").exists()


def test_the_same_input_and_flags_give_the_same_bytes(tmp_path):
    for run in "ab":
        convert("ml-100k", None, tmp_path / run, session_gap=3600, all_users=True)
    for name in ("ml-100k.inter", "dataset.json"):
        first, second = ((tmp_path / run / "ml-100k" / name).read_bytes() for run in "ab")
        assert first == second
    card = json.loads((tmp_path / "a" / "ml-100k" / "dataset.json").read_text())
    assert card["options"]["session_gap"] == 3600
    assert str(tmp_path) not in json.dumps(card)
    assert (tmp_path / "a" / "ml-100k" / "ml-100k.inter").read_text().startswith(HEADER)


def test_two_conversions_into_one_name_take_turns(tmp_path, monkeypatch):
    """While one has put its file but not its card in place, another waits."""
    folder = tmp_path / "d"
    for scratch in ("a", "b"):
        (tmp_path / scratch).mkdir()
        for name in ("d.inter", "dataset.json"):
            (tmp_path / scratch / name).write_text(scratch)
    replace, other = Path.replace, threading.Thread(target=publish, args=(tmp_path / "b", folder, "d"))

    def slowly(self, target):
        if self == tmp_path / "a" / "dataset.json":
            other.start()
            other.join(0.5)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", slowly)
    publish(tmp_path / "a", folder, "d")
    other.join()
    assert (folder / "d.inter").read_text() == (folder / "dataset.json").read_text() == "b"


KILLED_AT = {
    "while reading": "recbole_session.converters.lines.LineCheck.add",
    "while writing": "recbole_session.converters.engine.write_inter",
    "before the data's rename": "recbole_session.converters.conversion.publish",
    "between the renames": "pathlib.Path.replace",
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("place", KILLED_AT)
@pytest.mark.parametrize("before", ["old dataset", "none"])
def test_kill_9_leaves_the_old_dataset_or_none(tmp_path, place, before):
    """A conversion that kills itself at a chosen place, with a whole old dataset there or nothing."""
    if before == "old dataset":
        convert("ml-100k", None, tmp_path, session_gap=60)
        old = (tmp_path / "ml-100k" / "ml-100k.inter").read_bytes()
    module, _, name = KILLED_AT[place].rpartition(".")
    calls_before = 1 if place == "between the renames" else 0
    script = f"""
import os, pkgutil, signal
from recbole_session.converters import conversion
holder, calls = pkgutil.resolve_name({module!r}), []
original = getattr(holder, {name!r})
def deadly(*args, **keywords):
    calls.append(1)
    if len(calls) > {calls_before}:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **keywords)
setattr(holder, {name!r}, deadly)
conversion.run_conversion("ml-100k", None, {str(tmp_path)!r})
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == -signal.SIGKILL
    inter, card = tmp_path / "ml-100k" / "ml-100k.inter", tmp_path / "ml-100k" / "dataset.json"
    if place == "between the renames":  # the whole new dataset, its card not yet there
        assert inter.read_bytes().count(b"\n") == 100001
        assert not card.exists()
    elif before == "old dataset":
        assert inter.read_bytes() == old
        assert card.exists()
    else:
        assert not inter.exists()
    convert("ml-100k", None, tmp_path)  # the next conversion cleans up
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ml-100k"]
    assert sorted(path.name for path in (tmp_path / "ml-100k").iterdir()) == [
        "dataset.json",
        "ml-100k.inter",
        "ml-100k.item",
    ]


def test_ml_100k_is_quick_and_quiet(tmp_path, capfd):
    started = time.perf_counter()
    path = convert("ml-100k", None, tmp_path, all_users=True)
    assert path == tmp_path / "ml-100k" / "ml-100k.inter"
    assert time.perf_counter() - started < 10  # loose, for a busy machine
    assert capfd.readouterr() == ("", "")
    assert len({line.split(b"\t")[0] for line in path.read_bytes().splitlines()[1:]}) == 943


def test_ctrl_c_during_a_query_is_an_interrupt(tmp_path):
    """DuckDB reports it as a RuntimeError."""
    sender = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), open_database(tmp_path) as connection:
        sender.start()
        connection.execute("SELECT max(a.range + b.range) FROM range(100_000_000) a, range(100_000_000) b").fetchall()
