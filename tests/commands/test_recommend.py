import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import recbole_session
from recbole_session.cli import main
from tests.conftest import DAY
from tests.inference.conftest import ROWS, TITLES, TrainToy, histories_and_targets, with_sessions
from tests.inference.test_ranks import ranks_of_run

HISTORIES = {
    "u1": [("i3", 100), ("i5", 200)],
    "stranger, with a comma": [("i1", 50), ("new", 60)],
    "nobody": [("new", 7)],
    "ü": [("i7", 10), ("i8", 10 + 2 * DAY)],
}


@pytest.fixture
def folder(train_toy: TrainToy) -> Path:
    return train_toy()


@pytest.fixture
def as_csv(tmp_path: Path) -> Path:
    path = tmp_path / "histories.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows((user, *event) for user, events in HISTORIES.items() for event in events)
    return path


def recommend(folder: Path, output: Path, *flags: object) -> int:
    return main(["recommend", f"--run={folder}", f"--output={output}", *map(str, flags)])


def read_lines(path: Path) -> dict[str, dict[str, object]]:
    return {line["user"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_csv_in_json_lines_out(folder: Path, as_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(folder, tmp_path / "out.jsonl", f"--histories={as_csv}", "--k=4") == 0
    found = read_lines(tmp_path / "out.jsonl")
    expected = recbole_session.load(folder).recommend(HISTORIES, k=4)
    assert list(found) == list(HISTORIES)
    for user, answer in expected.items():
        assert found[user]["items"] == answer.items
        assert found[user]["scores"] == answer.scores
        assert found[user]["skipped"] == answer.skipped
    assert found["nobody"]["source"] == "popular"
    out = capsys.readouterr()
    assert "4 histories; 2 events of unknown items were left out; 1 histories held no known item" in out.out
    assert "histories/s" not in out.err  # no progress bar where there is no terminal


def test_json_lines_in_csv_and_parquet_out(folder: Path, tmp_path: Path) -> None:
    asks = [{"user": user, "history": events} for user, events in HISTORIES.items()]
    asks[0] |= {"now": "1970-01-03T00:00:00Z", "new_session": False}
    asks[3] |= {"history": [["i7", "1970-01-01T00:00:10Z"], ["i8", 10 + 2 * DAY]]}
    source = tmp_path / "asks.jsonl"
    source.write_text("\n".join(map(json.dumps, asks)) + "\n\n")
    expected = recbole_session.load(folder).recommend(
        HISTORIES, now=[2 * DAY, None, None, None], new_session=[False] + ["auto"] * 3
    )
    rows = [
        (user, rank, item, score, answer.source, answer.new_session)
        for user, answer in expected.items()
        for rank, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1)
    ]
    columns = ["user_id", "rank", "item_id", "score", "source", "new_session"]
    assert recommend(folder, tmp_path / "out.csv", f"--histories={source}") == 0
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [columns, *([str(value) for value in row] for row in rows)]
    pytest.importorskip("pyarrow")
    assert recommend(folder, tmp_path / "out.parquet", f"--histories={source}", "--batch_size=3") == 0
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert list(frame.columns) == columns
    for row, found in zip(rows, frame.itertuples(index=False), strict=True):
        assert tuple(found) == (*row[:3], pytest.approx(row[3], abs=1e-6), *row[4:])


@pytest.mark.parametrize("own_sessions", [False, True])
def test_the_datasets_users_at_the_test_position(own_sessions: bool, train_toy: TrainToy, tmp_path: Path) -> None:
    folder = train_toy(own_sessions=True) if own_sessions else train_toy()
    flags = ["--at=test", "--k=1000", "--include_seen", "--batch_size=4"]
    assert recommend(folder, tmp_path / "out.csv", *flags) == 0
    frame = pd.read_csv(tmp_path / "out.csv", dtype={"user_id": str, "item_id": str})
    targets = {user: target[1] for user, (_, target) in histories_and_targets(ROWS).items()}
    is_target = frame["item_id"] == frame["user_id"].map(targets)
    assert dict(zip(frame["user_id"][is_target], frame["rank"][is_target], strict=True)) == ranks_of_run(folder)


def test_the_datasets_users_after_all_they_did(train_toy: TrainToy, tmp_path: Path) -> None:
    folder = train_toy(own_sessions=True)
    assert recommend(folder, tmp_path / "out.jsonl", "--now=1e10", "--new_session=no") == 0
    histories: dict[str, list[tuple[object, ...]]] = {}
    for user, *event in with_sessions(ROWS):
        histories.setdefault(str(user), []).append(tuple(event))
    expected = recbole_session.load(folder).recommend(histories, now=10**10, new_session=False)
    found = read_lines(tmp_path / "out.jsonl")
    assert {user: line["items"] for user, line in found.items()} == {user: a.items for user, a in expected.items()}


def test_among_a_file(folder: Path, as_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "among.txt").write_text("i1\ni9\n\ni3\n")
    flags = [f"--histories={as_csv}", f"--among={tmp_path / 'among.txt'}"]
    assert recommend(folder, tmp_path / "out.jsonl", *flags) == 0
    found = read_lines(tmp_path / "out.jsonl")
    assert set(found["u1"]["items"]) == {"i1", "i9"}
    assert set(found["nobody"]["items"]) == {"i1", "i9", "i3"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,item,time\n", "line 1 is 'user,item,time'; it must be 'user_id,item_id,timestamp,session_id'"),
        ("user_id,item_id,timestamp\na,i1,1\nb,i1,noon\n", "line 3: timestamp is 'noon'; allowed: seconds"),
        ("user_id,item_id,timestamp\na,i1,1\nb,i1,1\na,i2,2\n", "line 4: user 'a' was here before; sort the file"),
        ("user_id,item_id,timestamp\na,i1\n", "line 2 has 2 columns; the header names 3"),
        ("user_id,item_id,timestamp\na,i1,1700000000000\n", "line 2: timestamp is '1700000000000', beyond 1e+11"),
    ],
)
def test_mistakes_in_a_csv_name_the_line(
    text: str, words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "bad.csv"
    source.write_text(text)
    assert_refused(folder, tmp_path, capsys, words, f"--histories={source}", "--batch_size=1")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", 'line 2 must be {"user": ..., "history"'),
        ('{"user": 1, "history": [], "nwo": 3}', "line 2: key 'nwo' is unknown; allowed: history, new_session, now"),
        ('{"user": 1, "history": ["i1"]}', "line 2 holds the event 'i1'"),
        ('{"user": 1, "history": [["i1", 5]], "now": 4}', "line 2: now is 4, before its last event at 5"),
        ('{"user": 1, "history": [["i1", 5]], "new_session": 7}', "new_session is 7"),
    ],
)
def test_mistakes_in_json_lines_name_the_line(
    line: str, words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"user": 0, "history": [["i1", 5]]}\n' + line + "\n")
    assert_refused(folder, tmp_path, capsys, words, f"--histories={source}", "--batch_size=1")


def assert_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, *flags: str) -> None:
    """Exit code 2, one sentence, nothing left behind, and an older output untouched."""
    (tmp_path / "out.csv").write_text("older")
    before = {path.name for path in tmp_path.iterdir()}
    assert recommend(folder, tmp_path / "out.csv", *flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("recbole-session: ")
    assert words in error
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (tmp_path / "out.csv").read_text() == "older"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--histories=nowhere.csv"], "nowhere.csv cannot be read: No such file"),
        (["--histories=histories.txt"], "must be one of .csv, .jsonl, .ndjson"),
        (["--k=0"], "k is 0"),
        (["--batch_size=0"], "batch_size is 0"),
        (["--among=nowhere.txt"], "nowhere.txt cannot be read"),
        (["--data_path=nowhere"], "make it with `recbole-session convert"),
        (["--at=test", "--now=5"], "--at=test takes the moment"),
        (["--at=test", "--histories=a.csv"], "--at=test is a position in the run's dataset"),
        (["--now=noon"], "now is 'noon'"),
    ],
)
def test_mistakes_in_flags(
    flags: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(folder, tmp_path, capsys, words, *flags)


def test_mistakes_in_paths(folder: Path, as_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, output, words in (
        (folder, tmp_path / "out.txt", "output ends in '.txt'; allowed: .csv, .jsonl, .ndjson, .parquet"),
        (folder, tmp_path / "nowhere" / "out.csv", "there is no folder"),
        (tmp_path, tmp_path / "out.csv", "name the run folder of a trained model"),
    ):
        assert recommend(run, output, f"--histories={as_csv}") == 2
        assert words in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["histories.csv"]
    before = as_csv.read_bytes()
    assert recommend(folder, tmp_path / "." / "histories.csv", f"--histories={as_csv}") == 2
    assert "the file of --histories; name another" in capsys.readouterr().err
    assert as_csv.read_bytes() == before


def test_without_pyarrow_parquet_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert recommend(folder, tmp_path / "out.parquet") == 2
    assert "Parquet needs pyarrow" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_histories_are_read_as_they_are_answered(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bounded memory: never more than a batch of requests is alive."""
    import gc

    from recbole_session.inference.histories import Request
    from recbole_session.inference.recommender import Recommender

    source = tmp_path / "many.jsonl"
    source.write_text("".join(json.dumps({"user": n, "history": [["i1", n]]}) + "\n" for n in range(100)))

    def count() -> int:
        return sum(type(thing) is Request for thing in gc.get_objects())

    before = count()  # those of other tests
    alive: list[int] = []
    answer = Recommender.answer

    def counted(self: Recommender, *arguments: object) -> object:
        alive.append(count() - before)
        return answer(self, *arguments)

    monkeypatch.setattr(Recommender, "answer", counted)
    assert recommend(folder, tmp_path / "out.csv", f"--histories={source}", "--batch_size=10", "--k=2") == 0
    assert len(alive) == 10
    assert max(alive) <= 20  # this batch, and the one before it that is not yet let go
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 201


def test_a_terminal_sees_a_progress_bar(
    folder: Path, as_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert recommend(folder, tmp_path / "out.csv", f"--histories={as_csv}") == 0
    assert "4 histories" in terminal.getvalue()


def test_an_interrupted_command_says_so_and_leaves_no_file(
    folder: Path, as_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("recbole_session.inference.recommender.Recommender.answer", interrupt)
    assert recommend(folder, tmp_path / "out.csv", f"--histories={as_csv}") == 130
    assert capsys.readouterr().err == "recbole-session: interrupted\n"
    assert sorted(tmp_path.iterdir()) == before


def test_sizes_and_places_that_cannot_be(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.csv").mkdir()
    for flags, words in {
        (tmp_path / "out.csv",): "is a folder; name a file",
        (tmp_path / "a.csv", f"--batch_size={10**30}"): "allowed: 1 to 1,000,000",
        (tmp_path / "a.csv", "--device=meta"): "device is 'meta', which torch cannot use here",
    }.items():
        assert recommend(folder, *flags) == 2
        assert words in capsys.readouterr().err


def test_a_reader_that_leaves_ends_the_program_quietly(folder: Path) -> None:
    """As in ``recbole-session audit RUN | head -0``."""
    command = [sys.executable, "-m", "recbole_session", "audit", str(folder)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_items_have_names_in_every_format(train_toy: TrainToy, as_csv: Path, tmp_path: Path) -> None:
    folder = train_toy(titled=True)
    expected = recbole_session.load(folder).recommend(HISTORIES, k=40)
    names = {user: {item: TITLES.get(item, "") for item in answer.items} for user, answer in expected.items()}
    for suffix in (".csv", ".parquet", ".jsonl"):
        path = tmp_path / f"out{suffix}"
        assert recommend(folder, path, f"--histories={as_csv}", "--k=40") == 0
        if suffix == ".jsonl":
            found = {
                user: dict(zip(line["items"], line["titles"], strict=True)) for user, line in read_lines(path).items()
            }
        else:
            frame = pd.read_csv(path, keep_default_na=False) if suffix == ".csv" else pd.read_parquet(path)
            assert list(frame)[-1] == "title"
            by_user = frame.groupby("user_id", sort=False)
            found = {user: dict(zip(rows["item_id"], rows["title"], strict=True)) for user, rows in by_user}
        assert found == names
