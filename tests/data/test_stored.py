"""The stored columns of an atomic file give what its text gives; nothing that is old or damaged is believed."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_session.data import atomic, stored
from recbole_session.data.atomic import parse_columns, read_header
from recbole_session.data.stored import load_columns
from recbole_session.errors import InputError
from tests.conftest import BuildConfig, WriteDataset, build_views, random_rows

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
ROWS = "b\t007\t3\n\t7\t1.5\na\t\t2\nb\tNA\t\n"
NAMES = ["user_id", "item_id", "timestamp"]


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "SMALLEST", 0)
    monkeypatch.setattr(atomic, "ROWS_AT_ONCE", 3)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose text was read."""
    paths: list[Path] = []

    def parse(path: Path, *options: Any) -> Any:
        paths.append(path)
        return parse_columns(path, *options)

    monkeypatch.setattr(stored, "parse_columns", parse)
    return paths


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "log.inter"
    file.write_text(HEADER + ROWS)
    return file


def load(
    path: Path, named: tuple[str, ...] = ("user_id", "item_id")
) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    arrays, tokens = load_columns(path, read_header(path, "\t", "utf-8"), NAMES, named, "\t", "utf-8")
    return {name: array.tolist() for name, array in arrays.items()}, tokens


def folders(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.columns"))


def test_codes_count_up_from_the_first_row_and_missing_values_stay_missing(path: Path) -> None:
    for _ in range(2):  # from the text, then from the stored columns
        arrays, tokens = load(path)
        assert arrays["user_id"] == [0, -1, 1, 0]
        assert arrays["item_id"] == [0, 1, -1, 2]
        assert np.isnan(arrays["timestamp"].pop())
        assert arrays["timestamp"] == [3.0, 1.5, 2.0]
        assert tokens == {"user_id": ["b", "a"], "item_id": ["007", "7", "NA"]}
    assert load(path, named=())[1] == {}


def test_the_text_is_read_once_and_the_columns_are_mapped(path: Path, parsed: list[Path]) -> None:
    load(path)
    load(path)
    arrays, _ = load_columns(path, read_header(path, "\t", "utf-8"), NAMES, (), "\t", "utf-8")
    assert parsed == [path]
    assert all(isinstance(array.base, np.memmap) for array in arrays.values())


def test_another_text_of_the_same_size_and_time_is_noticed(path: Path, parsed: list[Path]) -> None:
    import os

    load(path)
    [old], times = folders(path), path.stat()
    path.write_text(HEADER + ROWS.replace("b", "c"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load(path)[1]["user_id"] == ["c", "a"]
    [new] = folders(path)
    assert new != old
    assert len(parsed) == 2


def test_other_columns_and_another_encoding_have_a_form_of_their_own(path: Path, parsed: list[Path]) -> None:
    load(path)
    fields = read_header(path, "\t", "utf-8")
    load_columns(path, fields, NAMES[:2], (), "\t", "utf-8")
    load_columns(path, fields, NAMES, (), "\t", "latin-1")
    assert len(parsed) == len(folders(path)) == 3
    load(path)
    assert len(parsed) == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "index", "not json", "foreign"])
@pytest.mark.parametrize("name", ["0.npy", "1.txt", "2.npy"])
def test_a_damaged_form_is_made_again(damage: str, name: str, path: Path, parsed: list[Path]) -> None:
    expected = str(load(path))
    [folder] = folders(path)
    file, index = folder / name, folder / stored.INDEX
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        file.unlink()
    elif damage == "index":
        index.unlink()
    elif damage == "not json":
        index.write_text("[]")
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "key": {"file": "of another text"}}))
    assert str(load(path)) == expected
    assert len(parsed) == 2
    assert str(load(path)) == expected
    assert len(parsed) == 2


def test_a_folder_that_cannot_be_written_is_read_without(
    path: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    expected = str(load(path))
    path.write_text(HEADER + ROWS + ROWS)
    monkeypatch.setattr(stored, "FileLock", refuse)
    for _ in range(2):
        assert len(load(path)[0]["user_id"]) == 8
    assert len(parsed) == 3
    path.write_text(HEADER + ROWS)
    assert str(load(path)) == expected


def test_a_full_disk_costs_time_and_leaves_nothing(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    assert load(path)[1]["user_id"] == ["b", "a"]
    assert "No space left on device; the next run reads the text" in caplog.text
    assert sorted(file.name for file in path.parent.iterdir()) == [".log.inter.lock", "log.inter"]


def test_a_mistake_in_the_text_is_one_sentence_and_no_form(path: Path) -> None:
    path.write_text(HEADER + ROWS + "u\ti\tx\n")
    with pytest.raises(InputError, match="line 6: timestamp is 'x'"):
        load(path)
    assert not folders(path)


def _load_when_all_are_ready(barrier: Any, path: Path, answers: Any) -> None:
    stored.SMALLEST = 0
    barrier.wait()
    answers.put(str(load(path)))


def test_processes_that_load_at_once_agree(path: Path) -> None:
    path.write_text(HEADER + ROWS * 2000)
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_load_when_all_are_ready, args=(barrier, path, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=100) for _ in processes}
    for process in processes:
        process.join()
    assert found == {str(load(path))}
    assert len(folders(path)) == 1
    assert not list(path.parent.glob("*.tmp"))


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SASRec"])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"val_interval": {"timestamp": "[0,904000000]"}},
        {"val_interval": {"session_id": ["s0", "s2"]}},
        {"user_inter_num_interval": "[7,12]", "item_inter_num_interval": "[2,inf)"},
        {"rm_dup_inter": "first"},
    ],
)
def test_a_dataset_is_the_same_from_either(
    model: str,
    keys: dict[str, Any],
    write_dataset: WriteDataset,
    build_config: BuildConfig,
    monkeypatch: pytest.MonkeyPatch,
    parsed: list[Path],
) -> None:
    write_dataset([(*row, f"s{place // 40}") for place, row in enumerate(random_rows(n_users=20, seed=4))])
    found = []
    for smallest in (1 << 30, 0, 0):
        monkeypatch.setattr(stored, "SMALLEST", smallest)
        view = build_views(build_config(model, **keys))["test"]
        rows = view.sequences
        parts = [rows.items, rows.times, rows.sessions, rows.offsets, view.users, view.ends]
        found.append([part.tolist() for part in parts] + [view.field2id_token[name].tolist() for name in NAMES[:2]])
    assert found[0] == found[1] == found[2]
    assert len(parsed) == 2


def test_rows_are_counted_as_recbole_counts_them(
    write_dataset: WriteDataset, build_config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropping an item takes rows from users who then have too few, and so on."""
    from recbole.data.dataset import Dataset

    from recbole_session.data.dataset import SessionDataset

    rows = random_rows(n_users=30, n_items=40, seed=2)
    write_dataset(rows)
    keys = {"user_inter_num_interval": "[8,inf)", "item_inter_num_interval": "[5,inf)"}
    ours = SessionDataset(build_config(**keys)).inter_feat
    monkeypatch.setattr(SessionDataset, "_filter_by_inter_num", Dataset._filter_by_inter_num)
    theirs = SessionDataset(build_config(**keys)).inter_feat
    assert ours.to_numpy().tolist() == theirs.to_numpy().tolist()
    assert 20 < len(ours) < len(rows)
