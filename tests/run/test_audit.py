import json
import os
import statistics
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import recbole_session
from recbole_session.cli import main
from recbole_session.data.batches import UNKNOWN_TIME
from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.data.splits import samples_between, split_bounds
from recbole_session.errors import InputError
from recbole_session.run.audit import (
    audit_run,
    compare_contexts,
    inferred_context,
    is_audited,
    median_gaps,
    moved,
    rank_in_contexts,
    targets_by_place,
    withheld_context,
)
from recbole_session.run.run import Run
from recbole_session.run.training import run_session
from tests.conftest import DAY, TINY_MODEL, Row, WriteDataset, random_rows

FEATURES = list(chain.from_iterable(combinations(("ST", "SSE", "TSA"), size) for size in range(4)))
ROWS = random_rows(n_users=15, n_items=40, seed=3)
SMALL = {"epochs": 1, "hidden_size": 8, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 8, "n_layers": 1}


def train(tmp_path: Path, model: str = "SessionBERT4Rec", **keys: object) -> Path:
    values = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), "num_negatives": 10}
    values |= TINY_MODEL | {"initializer_range": 0.5} if model.startswith("Session") else SMALL
    return Path(run_session(model, "toy", config_dict={**values, **keys})["run_folder"])


@pytest.fixture
def folder(tmp_path: Path, write_dataset: WriteDataset) -> Path:
    """A finished run with all three features."""
    write_dataset(ROWS)
    return train(tmp_path)


def by_user(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of every user in order of time."""
    users: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[2]):
        users.setdefault(str(row[0]), []).append(row)
    return users


def sequences_of(*users: list[tuple[int, str]]) -> UserSequences:
    """Rows ``(time, session)`` of users 1, 2, ..."""
    rows = [(user, time, ord(session)) for user, own in enumerate(users, start=1) for time, session in own]
    owners, times, sessions = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    items = np.arange(1, len(rows) + 1)
    return build_user_sequences(owners, items, times, len(users) + 1, sessions)


# ---- contexts


def test_contexts_by_hand() -> None:
    told = sequences_of(
        [(0, "a"), (10, "a"), (13, "b"), (500, "c")],  # gaps 10 and 3: 6.5 is cut to 6
        [(7, "a"), (8, "a")],  # not in the test split: stays
        [(0, "a"), (100, "a"), (100, "a"), (400, "a"), (401, "a")],  # gaps 100, 0, 300; target in the same session
        [(50, "a"), (950, "b"), (951, "b")],  # one gap, 900
    )
    users, ends = torch.tensor([1, 3, 4]), torch.tensor([3, 10, 13])
    everyone = torch.arange(3)
    assert median_gaps(told, users, ends).tolist() == [6, 100, 900]
    assert told.sessions.tolist() == [1, 1, 2, 3, 4, 4, 5, 5, 5, 5, 5, 6, 7, 7]

    context = inferred_context(told, users, ends, session_gap=100)  # strictly greater
    inferred = moved(told, ends, *context, everyone)
    assert inferred.times.tolist() == [0, 10, 13, 19, 7, 8, 0, 100, 100, 400, 500, 50, 950, 1850]
    assert inferred.sessions.tolist() == [1, 1, 2, 2, 4, 4, 5, 5, 5, 5, 5, 6, 7, 8]

    withheld = moved(told, ends, *withheld_context(ends), everyone)
    unknown = UNKNOWN_TIME
    assert withheld.times.tolist() == [0, 10, 13, unknown, 7, 8, 0, 100, 100, 400, unknown, 50, 950, unknown]
    assert withheld.sessions.tolist() == [1, 1, 2, 2, 4, 4, 5, 5, 5, 5, 5, 6, 7, 7]
    assert told.times[3] == 500  # the run's own rows stay as they are

    assert compare_contexts(told, ends, context) == {
        "targets": 3,
        "told_new_session": 1,
        "inferred_new_session": 1,
        "inferred_right": 1,
        "inferred_time_error": 481.0,  # of 481, 99 and 899
    }


def test_several_targets_of_a_user_are_moved_one_at_a_time() -> None:
    told = sequences_of([(0, "a"), (9, "b"), (20, "b"), (50, "b")], [(0, "a"), (5, "b")])
    users, ends = torch.tensor([1, 1, 1, 2]), torch.tensor([1, 2, 3, 5])
    assert median_gaps(told, users, ends).tolist() == [0, 9, 10, 0]  # a single event has no gap
    turns = targets_by_place(users)
    assert [turn.tolist() for turn in turns] == [[0, 3], [1], [2]]
    times, opens = inferred_context(told, users, ends, session_gap=9)
    assert moved(told, ends, times, opens, turns[2]).times.tolist() == [0, 9, 20, 30, 0, 5]
    assert moved(told, ends, times, opens, turns[0]).times.tolist() == [0, 0, 20, 50, 0, 0]


def test_median_gaps_against_the_standard_library() -> None:
    rows = random_rows(n_users=30, seed=5, shortest=1, longest=12)
    users = list(by_user(rows).values())
    sequences = sequences_of(*([(int(row[2]), "a") for row in own] for own in users))
    histories = [[int(row[2]) for row in own[:-1]] for own in users if len(own) >= 3]
    assert len(histories) not in (0, len(users))
    expected = [int(statistics.median(np.diff(times).tolist())) for times in histories]
    _, test_from = split_bounds(sequences, {"LS": "valid_and_test"})
    users, ends = samples_between(sequences, test_from, sequences.offsets[1:])
    assert median_gaps(sequences, users, ends).tolist() == expected


# ---- ranks


def targets_of(users: dict[str, list[Row]], split: str) -> Iterator[tuple[str, list[Row], Row]]:
    """User, history and target of every test target, by a loop."""
    for user, own in sorted(users.items()):
        first = len(own) - 1
        if split == "SS":
            opens = [place for place in range(1, len(own)) if own[place][2] - own[place - 1][2] > 400]
            first = opens[-1] if opens else len(own)
        for place in range(first, len(own)):
            yield user, own[:place], own[place]


CASES = [("SessionBERT4Rec", features, "LS") for features in FEATURES]
CASES += [("SessionSASRec", features, "LS") for features in ((), ("GAP",), ("ST", "SSE", "TSA", "GAP"))]
CASES += [("SessionBERT4Rec", ("ST", "SSE", "TSA"), "SS"), ("SessionSASRec", ("ST", "SSE", "GAP"), "SS")]


@pytest.mark.parametrize(("model", "features", "split"), CASES, ids=str)
def test_every_context_gives_the_ranks_of_recommend(
    model: str, features: tuple[str, ...], split: str, tmp_path: Path, write_dataset: WriteDataset
) -> None:
    """`recommend` takes the history, the moment and whether a session opens from outside, and never the dataset."""
    write_dataset(ROWS)
    keys = {"session_gap": 400, "eval_args": {"split": {split: "valid_and_test"}}}
    folder = train(tmp_path, model, session_features=list(features), **keys)
    audit_run(folder)
    recommender = recbole_session.load(folder)
    found = {context: Run(folder).ranks(context) for context in ("told", "inferred", "withheld")}
    cases = list(targets_of(by_user(ROWS), split))
    inferred = [int(statistics.median(np.diff([row[2] for row in past]).tolist() or [0])) for _, past, _ in cases]
    assert len({gap > 400 for gap in inferred}) == 2
    for context, frame in found.items():
        frame = frame.sort_values("user_id", kind="stable").reset_index(drop=True)
        assert frame["item_id"].tolist() == [target[1] for *_, target in cases]
        for (_, history, target), guess, rank in zip(cases, inferred, frame["rank_all"], strict=True):
            last = history[-1][2]
            now = {"told": target[2], "inferred": last + guess, "withheld": None}[context]
            opens = now is not None and now - last > 400
            events = [row[1:] for row in history]
            answer = recommender.recommend(events, now=now, new_session=opens, k=99, exclude_seen=False)
            scores = dict(zip(answer.items, answer.scores, strict=True))
            above = sum(score >= scores[target[1]] for item, score in scores.items() if item != target[1])
            assert rank == 1 + above, (context, history)
    assert found["withheld"].equals(found["told"]) == (not features)


@pytest.mark.parametrize("own_sessions", [False, True])
def test_time_and_session_of_the_target_do_not_reach_the_input(
    own_sessions: bool, tmp_path: Path, write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Move the latest row of every user away, in time and to another session: nothing but `told` may notice."""
    users = by_user(ROWS)

    def write(delay: int, session: str) -> None:
        rows = []
        for own in users.values():
            sessions = [f"{place // 3}" for place in range(len(own) - 1)]
            last = (*own[-1][:2], own[-2][2] + delay, sessions[-1] if session == "same" else session)
            rows += [(*row, name) for row, name in zip(own[:-1], sessions, strict=True)] + [last]
        write_dataset(rows if own_sessions else [row[:3] for row in rows])

    write(delay=1, session="same")
    folder = train(tmp_path)
    before = rank_in_contexts(Run(folder), None)[1]
    monkeypatch.setattr(Run, "check_dataset", lambda *_: None)
    write(delay=77 * DAY, session="new")
    after = rank_in_contexts(Run(folder), None)[1]
    for context in ("inferred", "withheld"):
        assert before[context].metrics == after[context].metrics
        for name, ranks in before[context].ranks.items():
            assert ranks.equal(after[context].ranks[name]), (context, name)
    assert not before["told"].ranks["all"].equal(after["told"].ranks["all"])


@pytest.mark.parametrize("model", ["SASRec", "SHAN", "BERT4Rec"])
def test_models_that_read_neither_have_the_same_ranks_in_every_context(
    model: str, tmp_path: Path, write_dataset: WriteDataset
) -> None:
    write_dataset(ROWS)
    folder = train(tmp_path, model)
    audit_run(folder)
    told, inferred, withheld = (
        (folder / name).read_text() for name in ("ranks.csv", "ranks-inferred.csv", "ranks-withheld.csv")
    )
    assert told == inferred == withheld
    content = json.loads((folder / "context.json").read_text())
    assert content["told"] == content["inferred"] == content["withheld"]


# ---- files


def test_metrics_are_those_of_the_written_ranks(folder: Path) -> None:
    audit_run(folder)
    content = json.loads((folder / "context.json").read_text())
    assert content["told"] == json.loads((folder / "result.json").read_text())["test"]
    for context in ("inferred", "withheld"):
        frame = pd.read_csv(folder / f"ranks-{context}.csv")
        for name, metrics in content[context].items():
            ranks, counts = frame[f"rank_{name}"], frame[f"candidates_{name}"]
            gains = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0)
            assert metrics["ndcg@10"] == pytest.approx(gains.mean())
            assert metrics["recall@10"] == pytest.approx((ranks <= 10).mean())
            assert counts.equals(pd.read_csv(folder / "ranks.csv")[f"candidates_{name}"])
    opens = [own[-1][2] - own[-2][2] > DAY for own in by_user(ROWS).values()]
    assert content["targets"] == 15
    assert content["told_new_session"] == sum(opens)


def test_contexts_of_different_metrics_are_damaged(folder: Path) -> None:
    audit_run(folder)
    path = folder / "context.json"
    content = json.loads(path.read_text())
    del content["withheld"]["all"]["ndcg@10"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"context\.json is damaged: withheld\.all\.ndcg@10 is missing"):
        Run(folder).contexts  # noqa: B018


def test_an_audit_is_made_once_for_the_same_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit_run(folder)
    written = (folder / "context.json").stat().st_mtime_ns
    with monkeypatch.context() as context:
        context.setattr("recbole_session.run.audit.rank_in_contexts", None)  # would fail if called
        audit_run(folder)
    os.utime(folder / "best.pth")
    audit_run(folder)
    assert (folder / "context.json").stat().st_mtime_ns > written
    assert is_audited(folder)
    os.utime(folder / "ranks-withheld.csv", ns=(written, written))  # of older weights
    assert not is_audited(folder)
    (folder / "ranks-inferred.csv").unlink()
    audit_run(folder)
    assert (folder / "ranks-inferred.csv").is_file()


def test_a_dataset_that_changed_is_refused_and_nothing_is_written(folder: Path, write_dataset: WriteDataset) -> None:
    before = {path.name for path in folder.iterdir()}
    write_dataset([(user, item, 3 * time) for user, item, time in ROWS])
    with pytest.raises(InputError, match=rf"{folder.name}: dataset 'toy' has changed since this run"):
        audit_run(folder)
    assert {path.name for path in folder.iterdir()} == before


def test_ranks_that_the_weights_do_not_give_are_refused(folder: Path) -> None:
    frame = pd.read_csv(folder / "ranks.csv")
    frame.loc[0, "rank_all"] += 1
    frame.to_csv(folder / "ranks.csv", index=False)
    with pytest.raises(InputError, match=r"though the dataset is the same; audit it where it was made \(.*device cpu"):
        audit_run(folder)
    assert not (folder / "context.json").exists()


def test_a_folder_without_a_finished_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no finished run: there is no result\.json"):
        audit_run(tmp_path)
    (folder / "best.pth").unlink()
    with pytest.raises(InputError, match=r"there is no .*best\.pth"):
        audit_run(folder)
    (folder / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        audit_run(folder)


def test_the_command_prints_a_table_per_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], write_dataset: WriteDataset
) -> None:
    other = train(tmp_path, "SASRec")
    (tmp_path / "data").rename(tmp_path / "moved")
    assert main(["audit", str(folder), str(other)]) == 2
    assert "there is no" in capsys.readouterr().err
    assert main(["audit", str(folder), str(other), f"--data_path={tmp_path / 'moved'}"]) == 0
    ours, recboles = capsys.readouterr().out.split("\n\n" + str(other))
    content = json.loads((folder / "context.json").read_text())
    lines = [line.split() for line in ours.splitlines()[2:]]
    assert lines[0][:5] == ["context", "recall@10", "random", "ndcg@10", "random"]
    assert lines[1] == ["told", *(f"{value:.4f}" for sets in content["told"].values() for value in sets.values())]
    told, withheld = (content[context]["random"]["recall@10"] for context in ("told", "withheld"))
    assert [line[0] for line in lines[1:]] == ["told", "inferred", "withheld", "lost", "lost"]
    assert lines[5][2:4] == ["withheld", f"{1 - withheld / told:.1%}"]
    assert "0.0%" in recboles
