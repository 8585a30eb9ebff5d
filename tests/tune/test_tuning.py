"""Searches: the same as training, blind to the test split, resumed and shared."""

import csv
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

optuna = pytest.importorskip("optuna")

from recbole_session.cli import main  # noqa: E402
from recbole_session.config.session_config import SessionConfig  # noqa: E402
from recbole_session.errors import InputError  # noqa: E402
from recbole_session.run.trainer import SessionTrainer  # noqa: E402
from recbole_session.run.training import run_session  # noqa: E402
from recbole_session.tune import tuning  # noqa: E402
from recbole_session.tune.search_space import Search  # noqa: E402
from tests.conftest import DAY, WriteDataset, random_rows  # noqa: E402
from tests.processes import CONTEXT, keys_of, run_command  # noqa: E402

SPACE = "hidden_size: [4, 8, 16]\nmask_ratio: {low: 0.1, high: 0.6}\nn_heads: [1, 2]\n"


@pytest.fixture(autouse=True)
def toy(write_dataset: WriteDataset, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(random_rows(n_users=20, n_items=100))
    monkeypatch.setattr(tuning, "HEARTBEAT_SECONDS", 1)


def fixed_keys(base: Path, **keys: object) -> dict[str, object]:
    values = keys_of(base, epochs=4, eval_step=1) | keys
    return {key: value for key, value in values.items() if key not in ("hidden_size", "n_heads", "mask_ratio")}


def arguments(base: Path, *options: str, space: str = SPACE, **keys: object) -> list[str]:
    file = base / "space.yaml"
    file.write_text(space)
    given = [f"--{key}={json.dumps(value)}" for key, value in fixed_keys(base, **keys).items()]
    return ["tune", "--dataset=toy", f"--search={file}", *options, *given]


def folder_of(base: Path) -> Path:
    return base / "saved" / "toy" / "tuning-SessionBERT4Rec"


def read_trials(base: Path) -> list[dict[str, str]]:
    with (folder_of(base) / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_resumes_to_the_same_trials_and_its_best_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, "--trials=12")) == 0
    out = capsys.readouterr().out
    assert "[12/12] trial 11: " in out and "importance: " in out
    whole = read_trials(tmp_path)
    assert len(whole) == 12
    assert {row["state"] for row in whole} <= {"complete", "pruned"}
    assert len({(row["hidden_size"], row["mask_ratio"]) for row in whole}) == 12
    other = tmp_path / "other"
    other.mkdir()
    keys = {"data_path": str(tmp_path / "data")}
    assert main(arguments(other, "--trials=5", **keys)) == 0
    assert len(read_trials(other)) == 5
    assert main(arguments(other, "--trials=12", **keys)) == 0
    assert read_trials(other) == whole
    assert (folder_of(tmp_path) / "importance.png").read_bytes()[:4] == b"\x89PNG"
    # The best configuration trains to the value that the search reports, and to its epoch.
    best = max((row for row in whole if row["state"] == "complete"), key=lambda row: float(row["value"]))
    result = run_session(config_file_list=[folder_of(tmp_path) / "best.yaml"])
    assert result["valid"]["random"]["ndcg@10"] == float(best["value"])
    assert result["best_epoch"] == int(best["epoch"])
    head = (folder_of(tmp_path) / "best.yaml").read_text().splitlines()
    assert head[0].startswith("# ndcg@10 (random, validation) 0.")
    assert head[1] == f"# python run_recbole_session.py --config_files={folder_of(tmp_path) / 'best.yaml'}"


def test_best_holds_what_differs_from_the_files(tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text("n_layers: 1\ninner_size: 8\nreg_weight: 0.1\n")  # the last is another model's
    argv = [entry for entry in arguments(tmp_path, "--trials=1") if not entry.startswith(("--n_layers", "--inner"))]
    assert main([*argv, f"--config_files={file}"]) == 0
    best = folder_of(tmp_path) / "best.yaml"
    assert "n_layers" not in best.read_text()
    command = best.read_text().splitlines()[1]
    assert command.endswith(f"--config_files='{file} {best}'")
    config = SessionConfig(command_line=[f"--config_files={file} {best}"])
    assert (config["n_layers"], config["inner_size"], config["epochs"]) == (1, 8, 4)
    (trial,) = read_trials(tmp_path)
    assert config["hidden_size"] == int(trial["hidden_size"])
    assert config["mask_ratio"] == float(trial["mask_ratio"])


def test_the_test_split_is_never_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its batches are never cut, and only validation is ranked; with both forbidden the trials are equal."""
    assert main(arguments(tmp_path, "--trials=3")) == 0
    expected = read_trials(tmp_path)
    from recbole_session.data.dataset import SessionDataset

    cut, rank, splits = SessionDataset.__getitem__, SessionTrainer._rank, set()

    def guarded_cut(self: SessionDataset, index: object, join: bool = True) -> object:
        splits.add(self.split)
        assert self.split != "test"
        return cut(self, index, join)

    def guarded_rank(self: SessionTrainer, eval_data: object, candidate_sets: list[str]) -> object:
        assert eval_data._dataset.split == "valid"
        return rank(self, eval_data, candidate_sets)

    monkeypatch.setattr(SessionDataset, "__getitem__", guarded_cut)
    monkeypatch.setattr(SessionTrainer, "_rank", guarded_rank)
    other = tmp_path / "other"
    other.mkdir()
    assert main(arguments(other, "--trials=3", data_path=str(tmp_path / "data"))) == 0
    assert read_trials(other) == expected
    assert splits == {"train", "valid"}


def test_other_test_items_give_the_same_trials(tmp_path: Path, write_dataset: WriteDataset) -> None:
    """Among all items, whose ranks need no negatives: the last item of every user is exchanged, and nothing moves."""
    users, items = 15, 40
    draw = torch.Generator().manual_seed(1)
    base = [
        (f"u{user}", f"i{int(torch.randint(items, (1,), generator=draw))}", 10**9 + user + position * DAY)
        for user in range(users)
        for position in range(9)
    ]
    base += [
        (f"all{start}", f"i{item}", 10**9 + item) for start in range(0, items, 10) for item in range(start, start + 10)
    ]
    owners = sorted({row[0] for row in base})
    last = [
        [(owner, f"i{(number * 7 + shift) % items}", 2 * 10**9) for number, owner in enumerate(owners)]
        for shift in (1, 5)
    ]
    assert all(one[1] != other[1] for one, other in zip(*last, strict=True))
    keys = {"eval_candidates": ["all"], "valid_candidates": "all"}
    trials, checksums = [], []
    for number, rows in enumerate(last):
        write_dataset([*base, *rows])
        folder = tmp_path / str(number)
        folder.mkdir()
        assert main(arguments(folder, "--trials=4", data_path=str(tmp_path / "data"), **keys)) == 0
        trials.append(read_trials(folder))
        result = run_session(config_file_list=[folder_of(folder) / "best.yaml"])
        checksums.append((result["dataset_checksum"], json.dumps(result["test"])))
    assert trials[0] == trials[1]
    assert checksums[0][0] != checksums[1][0] and checksums[0][1] != checksums[1][1]


def test_a_grid_is_walked_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = "hidden_size: [4, 8]\nsession_features: [[], [ST]]\n"
    keys = {"epochs": 1, "n_heads": 2}
    argv = [entry for entry in arguments(tmp_path, "--sampler=grid", space=space, **keys)]
    argv = [entry for entry in argv if not entry.startswith("--session_features")]
    assert main([*argv, "--trials=3"]) == 0
    assert main([*argv, "--trials=50"]) == 0
    points = [(row["hidden_size"], row["session_features"]) for row in read_trials(tmp_path)]
    assert sorted(points) == [(size, text) for size in ("4", "8") for text in ('["ST"]', "[]")]
    assert "[4/4] trial 3" in capsys.readouterr().out


def test_a_trial_that_fails_is_told_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = "hidden_size: [3, 8]\nn_heads: [2, 4]\n"
    assert main(arguments(tmp_path, "--sampler=grid", space=space, epochs=1)) == 0
    rows = read_trials(tmp_path)
    failed = [row for row in rows if row["state"] == "fail"]
    assert {row["hidden_size"] for row in failed} == {"3"} and len(failed) == 2
    assert all("a hidden_size that n_heads divides" in row["failure"] for row in failed)
    assert "FAILED, hidden_size is 3 and n_heads" in capsys.readouterr().out


def test_hopeless_trials_are_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate of nothing a model stays where it began."""
    config = SessionConfig("SessionBERT4Rec", "toy", config_dict=fixed_keys(tmp_path, epochs=6))
    search = Search(config, {"learning_rate": [0.1]}, "tpe")
    study = tuning.open_study(search, str(tmp_path / "study"))
    scores = iter([0.5] * 5 + [0.1, 0.6])

    def scripted(keys: object, hook: Callable[[int, float], None]) -> SimpleNamespace:
        score = next(scores)
        for epoch in range(1, 7):
            hook(epoch, score)
        return SimpleNamespace(best_valid_score=score, best_epoch=5, epochs_run=6)

    monkeypatch.setattr(tuning, "train", scripted)
    tuning.tune(study, search, 7)
    lines = capsys.readouterr().out.splitlines()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + ["PRUNED", "COMPLETE"]
    assert "trial 5: pruned after 1 epochs" in lines[5]
    assert "best 0.6000 of trial 6" in lines[6]


def test_a_study_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_dataset: WriteDataset
) -> None:
    assert main(arguments(tmp_path, "--trials=1")) == 0
    capsys.readouterr()
    for options, space, keys, words in [
        ([], "hidden_size: [4, 8]\n", {}, "another search space (hidden_size was [4, 8, 16] and is [4, 8])"),
        ([], SPACE, {"learning_rate": 0.5}, "with another keys (learning_rate was 0.005 and is 0.5)"),
        (["--sampler=grid"], "hidden_size: [4]\n", {}, "with another search space"),
    ]:
        assert main(arguments(tmp_path, "--trials=1", *options, space=space, **keys)) == 2
        assert words in capsys.readouterr().err
    assert main(arguments(tmp_path, "--trials=1", eval_batch_size=3)) == 0  # says nothing about the numbers
    write_dataset([*random_rows(n_users=20, n_items=100)[:-1], ("u1", "i1", 7)])
    assert main(arguments(tmp_path, "--trials=1")) == 2
    assert "with another dataset (it was " in capsys.readouterr().err


def test_a_file_that_is_no_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("not a database\nat all\n")
    assert main(arguments(tmp_path, f"--storage={tmp_path / 'text'}")) == 2
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trials=0"], "trials is 0"),
        (["--timeout=-1"], "timeout is -1.0"),
        (["--trails=3"], "option --trails is unknown; did you mean 'trials'?"),
        (["--hidden_size=8"], "--hidden_size is given, but"),
        (["--reg_weight=8"], "--reg_weight is given, but SessionBERT4Rec does not read it"),
        (["--sampler=grid"], "mask_ratio is a range, which has no grid"),
        (["--model=SASrec"], "did you mean 'SASRec'?"),
    ],
)
def test_mistakes_on_the_command_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, *options)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def states(base: Path) -> list[str]:
    """States of the trials, with the number of keys that each has chosen so far."""
    query = (
        "SELECT state || ' with ' || COUNT(param_id) FROM trials LEFT JOIN trial_params USING (trial_id) "
        "GROUP BY trial_id ORDER BY number"
    )
    try:
        with closing(sqlite3.connect(f"file:{folder_of(base) / 'study.db'}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute(query)]
    except sqlite3.OperationalError:  # it is being made
        return []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_trial_that_was_stopped_is_repeated(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = arguments(tmp_path, "--trials=3", epochs=20, stopping_step=20)
    process = CONTEXT.Process(target=run_command, args=(argv, tmp_path / "log"))
    process.start()
    while states(tmp_path)[1:] != ["RUNNING with 3"]:
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.1)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == code, (tmp_path / "log").read_text()
    if number == signal.SIGTERM:
        assert "resume with: recbole-session tune" in (tmp_path / "log").read_text().splitlines()[-1]
    monkeypatch.setattr(tuning, "GRACE_SECONDS", 2)
    assert main(argv) == 0
    rows = read_trials(tmp_path)
    (lost,) = [row for row in rows if row["failure"].startswith("repeated as trial ")]
    assert len(rows) == 4
    assert [row["state"] for row in rows if row is not lost] == ["complete"] * 3
    again = rows[int(lost["failure"].split()[-1])]
    assert [again[key] for key in ("hidden_size", "mask_ratio")] == [lost[key] for key in ("hidden_size", "mask_ratio")]


def hold_the_lock(storage: Path, held: Path) -> None:
    """Write to the database and keep its lock, until killed."""
    connection = sqlite3.connect(storage, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("UPDATE trials SET state = 'FAIL'")
    held.touch()
    signal.pause()


def test_a_process_killed_while_it_holds_the_lock_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it leave half of what it wrote; the path of the storage is a relative one."""
    monkeypatch.chdir(tmp_path)
    argv = arguments(tmp_path, "--trials=2", "--storage=some.db", epochs=1)
    assert main(argv) == 0
    before = read_trials(tmp_path)
    process = CONTEXT.Process(target=hold_the_lock, args=(tmp_path / "some.db", tmp_path / "held"))
    process.start()
    while not (tmp_path / "held").exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (
        main([*argv, "--trials=3"][:2] + [entry for entry in argv[2:] if entry != "--trials=2"] + ["--trials=3"]) == 0
    )
    rows = read_trials(tmp_path)
    assert rows[:2] == before and len(rows) == 3


def _tune_on_a_full_disk(argv: list[str], log: Path, size: int) -> None:
    """Run the command where no file may grow beyond ``size`` bytes, as on a disk that is full."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    run_command(argv, log)


def test_a_full_disk_costs_no_trial(tmp_path: Path) -> None:
    assert main(arguments(tmp_path, "--trials=2", epochs=1)) == 0
    before, storage = read_trials(tmp_path), folder_of(tmp_path) / "study.db"
    size = storage.stat().st_size
    argv = arguments(tmp_path, "--trials=60", epochs=1)
    process = CONTEXT.Process(target=_tune_on_a_full_disk, args=(argv, tmp_path / "log", size))
    process.start()
    process.join()
    log = (tmp_path / "log").read_text()
    assert process.exitcode == 2, log
    assert "the study cannot be written to: " in log and "Traceback" not in log
    assert main(arguments(tmp_path, "--trials=4", epochs=1)) == 0
    rows = read_trials(tmp_path)
    assert rows[:2] == before
    assert sum(row["state"] in ("complete", "pruned") for row in rows) >= 2


def test_outputs_that_cannot_be_written_are_refused_before_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(tmp_path, "--trials=1", epochs=1)
    (folder_of(tmp_path) / "trials.csv").mkdir(parents=True)
    assert main(argv) == 2
    assert "trials.csv is a folder; name a file" in capsys.readouterr().err
    assert states(tmp_path) == []
    (folder_of(tmp_path) / "trials.csv").rmdir()
    assert main(argv) == 0


def test_a_torn_database_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = arguments(tmp_path, "--trials=1", epochs=1)
    assert main(argv) == 0
    storage = folder_of(tmp_path) / "study.db"
    content = storage.read_bytes()
    for kept in (100, 4096, len(content) // 2, len(content) - 4096):
        storage.write_bytes(content[:kept])
        capsys.readouterr()
        assert main(argv) == 2, kept
        error = capsys.readouterr().err
        assert f"storage {storage} cannot be used: " in error and error.count("\n") == 1
    storage.write_bytes(content)
    assert main(argv) == 0


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    argv = arguments(tmp_path, "--trials=8", epochs=8)
    processes = [CONTEXT.Process(target=run_command, args=(argv, tmp_path / f"log{number}")) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    logs = [(tmp_path / f"log{number}").read_text() for number in range(2)]
    assert [process.exitcode for process in processes] == [0, 0], logs
    assert all("trial " in log for log in logs)
    assert main(argv) == 0  # writes what both found
    rows = read_trials(tmp_path)
    assert 8 <= len(rows) <= 9  # both may see room for a last one
    assert len({(row["hidden_size"], row["mask_ratio"]) for row in rows}) == len(rows)


def test_without_a_row_to_validate_on_there_is_nothing_to_tune(tmp_path: Path, write_dataset: WriteDataset) -> None:
    write_dataset([(f"u{user}", f"i{user + place}", DAY * place) for user in range(6) for place in range(3)])
    keys = keys_of(tmp_path, epochs=2) | {"num_negatives": 2}
    with pytest.raises(InputError, match=r"dataset 'toy' has no row to validate on under the split .*LS"):
        tuning.train({"model": "SASRec", "dataset": "toy", **keys})
    run_session("SASRec", "toy", config_dict=keys)
    (log,) = tmp_path.glob("saved/toy/*/run.log")
    assert "test, epoch 2 of 2 (nothing to validate on), " in log.read_text(encoding="utf-8")


def test_a_search_without_a_result_is_an_error_and_leaves_no_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, "--trials=1", epochs=1)) == 0
    assert (folder_of(tmp_path) / "best.yaml").exists()
    other = f"--storage={tmp_path / 'other.db'}"
    assert main(arguments(tmp_path, "--trials=1", other, space="hidden_size: [3]\nn_heads: [2]\n", epochs=1)) == 2
    assert "no trial has a result; the first that failed: hidden_size is 3 and n_heads" in capsys.readouterr().err
    assert not (folder_of(tmp_path) / "best.yaml").exists()


def test_a_database_without_its_driver_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "--trials=1", "--storage=postgresql+asyncpg://u@127.0.0.1:1/x")) == 2
    assert "storage postgresql+asyncpg://u@127.0.0.1:1/x cannot be used" in capsys.readouterr().err
