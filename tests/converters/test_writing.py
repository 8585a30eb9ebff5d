"""The .inter file byte by byte, and conversions that are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_session.converters import convert, writing
from recbole_session.converters.pipeline import Log
from recbole_session.converters.writing import HEADER, publish, scratch_folder, write_inter
from recbole_session.errors import InputError


def log(users, items, ratings, times, sessions):
    return Log(
        np.array(users, dtype=np.int32), np.array(items, dtype=np.int32), np.array(ratings),
        np.array(times, dtype=np.int64), np.array(sessions, dtype=np.int64),
    )  # fmt: skip


def table(*tokens):
    result = np.empty(len(tokens), dtype=object)
    result[:] = [token.encode() for token in tokens]
    return result


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
def test_the_file_by_hand(tmp_path, monkeypatch, chunk_rows):
    monkeypatch.setattr(writing, "CHUNK_ROWS", chunk_rows)
    chunks = [
        log([0, 0, 0], [1, 0, 1], [5.0, 3.5, -0.25], [0, 7, 978300760], [1, 1, 2]),
        log([0, 2, 2], [0, 0, 0], [1e20, 0.1, 5.0], [978300760, 10, 11], [2, 2, 3]),
    ]
    written = write_inter(tmp_path / "x", chunks, table("user é", "unused", "7"), table("i", "long item"))
    assert (tmp_path / "x").read_text(encoding="utf-8") == (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tsession_id:token\n"
        "user é\tlong item\t5.0\t0\t1\n"
        "user é\ti\t3.5\t7\t1\n"
        "user é\tlong item\t-0.25\t978300760\t2\n"
        "user é\ti\t1e+20\t978300760\t2\n"
        "7\ti\t0.1\t10\t3\n"
        "7\ti\t5.0\t11\t4\n"
    )
    assert (written.rows, written.sessions) == (6, 4)
    assert written.bytes == (tmp_path / "x").stat().st_size


def test_equal_session_numbers_of_two_users_are_two_tokens(tmp_path):
    write_inter(tmp_path / "x", [log([0, 1], [0, 0], [1.0, 1.0], [5, 5], [1, 1])], table("a", "b"), table("i"))
    assert [line.split("\t")[-1] for line in (tmp_path / "x").read_text().splitlines()[1:]] == ["1", "2"]


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
        publish(tmp_path, folder, "d.inter")
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
    assert (tmp_path / "a" / "ml-100k" / "ml-100k.inter").read_bytes().startswith(HEADER)


KILLED_AT = {
    "while reading": "recbole_session.converters.rows.LineCheck.add",
    "while writing": "recbole_session.converters.writing._encode",
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
    assert sorted(path.name for path in (tmp_path / "ml-100k").iterdir()) == ["dataset.json", "ml-100k.inter"]


def test_ml_100k_is_quick_and_quiet(tmp_path, capfd):
    started = time.perf_counter()
    path = convert("ml-100k", None, tmp_path, all_users=True)
    assert path == tmp_path / "ml-100k" / "ml-100k.inter"
    assert time.perf_counter() - started < 10  # loose, for a busy machine
    assert capfd.readouterr() == ("", "")
    assert len({line.split(b"\t")[0] for line in path.read_bytes().splitlines()[1:]}) == 943
