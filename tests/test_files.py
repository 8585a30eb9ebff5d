import multiprocessing
import os
from pathlib import Path

import pytest

from recbole_session.errors import InputError, printable
from recbole_session.files import file_checksum, replacing


def test_the_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    dead, alive, other = (
        tmp_path / name for name in (f".a.csv.{process.pid}.tmp", f".a.csv.{os.getppid()}.tmp", ".b.csv.1.tmp")
    )
    for path in (dead, alive, other):
        path.write_text("half")
    with replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text("new")
        assert not dead.exists()
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a.csv", alive, other])


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, words in {
        tmp_path: "is a folder; name a file",
        tmp_path / "nowhere" / "a.csv": "there is no folder",
        tmp_path / "file" / "a.csv": "there is no folder",
        tmp_path / ("x" * 300): "cannot be written: File name too long",
    }.items():
        with pytest.raises(InputError, match=words), replacing(path):
            raise AssertionError("the work has begun")


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine")
    (tmp_path / f".a.csv.{os.getpid()}.tmp").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "a.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "a.csv").read_text() == "new"


def test_escape_sequences_are_printed_as_text() -> None:
    assert printable("ü\n\x1b[2J\u202e\t") == "ü\n\\x1b[2J\\u202e\\t"


def test_the_checksum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_checksum(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")
    with pytest.raises(InputError, match="y cannot be read"):
        file_checksum(tmp_path / "y")
