"""Comparisons in real processes: reuse, kills, failures, workers."""

import json
import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import yaml

from recbole_session.cli import main
from recbole_session.compare.runs import read_comparison
from recbole_session.errors import InputError
from recbole_session.run.training import run_session
from tests.compare.comparisons import (
    PLAN,
    ROWS,
    arguments,
    install_report,
    read_entries,
    read_table,
    read_tables,
    run_folders,
)
from tests.conftest import WriteDataset, random_rows
from tests.processes import CONTEXT, keys_of, kill_at_random, run_command


@pytest.fixture(autouse=True)
def toy(write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(random_rows(n_users=20, n_items=100))
    monkeypatch.setitem(sys.modules, "recbole_session.report.report", None)
    install_report()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("recbole_session.compare.processes.threads_per_worker", lambda n: 1)
    monkeypatch.setattr("recbole_session.compare.comparing.threads_per_worker", lambda n: 1)


def other_base(tmp_path: Path, name: str) -> Path:
    """Return a folder of its own for runs on the same data."""
    base = tmp_path / name
    base.mkdir()
    (base / "data").symlink_to(tmp_path / "data")
    return base


def _with_one_thread() -> None:
    """Prepare this process for a comparison."""
    os.environ["OMP_NUM_THREADS"] = "1"
    install_report()
    from recbole_session.compare import comparing

    comparing.threads_per_worker = lambda n: 1  # type: ignore[assignment]


def start_comparison(argv: list[str], log: Path) -> BaseProcess:
    """Start the command in a process of its own, its output going to ``log``."""
    process = CONTEXT.Process(target=run_command, args=(argv, log, _with_one_thread))
    process.start()
    return process


def test_killed_and_started_again_gives_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "recbole_session.report.report")  # the real one, not the stand-in
    keys = {"epochs": 15}
    assert main(arguments(tmp_path, **keys)) == 0
    whole = read_tables(tmp_path)
    assert all(row.encode() in whole["table.csv"] for row in ROWS)
    killed = other_base(tmp_path, "killed")
    argv = arguments(killed, **keys)
    process = start_comparison(argv, killed / "log")
    # In the middle of the second run, which has dropout and thus random states to restore.
    while not (len(run_folders(killed)) == 2 and (run_folders(killed)[1] / "last.pth").exists()):
        assert process.is_alive(), (killed / "log").read_text()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert sum((folder / "result.json").exists() for folder in run_folders(killed)) == 1
    before = {folder: (folder / "config.yaml").stat().st_mtime_ns for folder in run_folders(killed)}
    capsys.readouterr()
    assert main(argv) == 0
    assert "1 of 4 runs are there already, 3 to be made (1 begun)" in capsys.readouterr().out
    assert read_tables(killed) == whole
    assert len(run_folders(killed)) == 4  # the run that was killed went on in its folder
    assert all(folder.joinpath("config.yaml").stat().st_mtime_ns == time_ for folder, time_ in before.items())


def test_kills_at_any_moment_lose_nothing_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, whose parent is killed again and again; ``RECBOLE_SESSION_KILLS=20`` for a long test."""
    keys = {"epochs": 8, "eval_step": 1}
    assert main(arguments(tmp_path, **keys)) == 0
    killed = other_base(tmp_path, "killed")
    argv, begun = arguments(killed, "--workers=2", **keys), killed / "saved/toy/comparison-mine/comparison.yaml"
    before = [0]  # when every start, as its runs begin, wrote the plan

    def make() -> BaseProcess:
        before.append(begun.stat().st_mtime_ns if begun.exists() else 0)
        return start_comparison(argv, killed / "log")

    kill_at_random(make, 2.0, lambda: begun.exists() and begun.stat().st_mtime_ns > before[-1])
    assert main(argv) == 0
    assert read_table(killed) == read_table(tmp_path)
    left = {path.name for folder in run_folders(killed) for path in folder.iterdir()}
    assert left == {path.name for folder in run_folders(tmp_path) for path in folder.iterdir()}


def test_a_signal_saves_and_tells_the_resume_command(tmp_path: Path) -> None:
    argv = arguments(tmp_path, epochs=3000, stopping_step=3000)
    process = start_comparison(argv, tmp_path / "log")
    while not (run_folders(tmp_path) and (run_folders(tmp_path)[0] / "last.pth").exists()):
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 143
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("recbole-session: SIGTERM received: what was computed is saved; resume with: ")
    assert f"--plan={tmp_path / 'mine.yaml'}" in last
    assert not (run_folders(tmp_path)[0] / "result.json").exists()
    assert not list(run_folders(tmp_path)[0].glob(".*.tmp"))


def test_what_is_there_is_reused_wherever_it_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run made by hand, with keys that do not decide on its numbers given otherwise, counts."""
    keys = {**keys_of(tmp_path), "session_features": [], "seed": 2021, "eval_batch_size": 7}
    del keys["hidden_dropout_prob"]
    by_hand = Path(run_session("SessionBERT4Rec", "toy", config_dict=keys)["run_folder"])
    (by_hand.parent / "older").mkdir()
    by_hand.rename(by_hand.parent / "older" / "mine")
    assert main(arguments(tmp_path)) == 0
    assert "1 of 4 runs are there already, 3 to be made" in capsys.readouterr().out
    entries = {(entry["row"], entry["seed"]): entry["folder"] for entry in read_entries(tmp_path)}
    assert list(entries) == [(row, seed) for row in ROWS for seed in (2020, 2021)]
    assert entries["plain", 2021] == "../older/mine"
    assert (tmp_path / "saved/toy/comparison-mine" / entries["plain", 2021] / "result.json").is_file()
    table = read_table(tmp_path)
    # All of it again: nothing is left to do, and nothing changes.
    monkeypatch.setattr("recbole_session.compare.comparing.make_run", None)
    assert main(arguments(tmp_path)) == 0
    assert "4 of 4 runs are there already, 0 to be made" in capsys.readouterr().out
    assert read_table(tmp_path) == table


def summary(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "are there already" in line]
    return line


@pytest.mark.parametrize(
    ("keys", "reused"),
    [
        ({"checkpoint_interval": 5, "show_progress": False}, True),
        ({"epochs": 3}, False),
        ({"stopping_step": 3}, False),
        ({"learning_rate": 0.01}, False),
        ({"negatives_seed": 1}, False),
    ],
)
def test_which_keys_decide(
    keys: dict[str, object],
    reused: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = "seeds: 1\nruns:\n- {model: Pop}\n"
    pop = ["compare", "--dataset=toy", "--no_context", *arguments(tmp_path, plan=plan)[2:3]]
    places = [f"--data_path={tmp_path / 'data'}", f"--checkpoint_dir={tmp_path / 'saved'}", "--num_negatives=10"]
    assert main([*pop, *places]) == 0
    capsys.readouterr()
    assert main([*pop, *places, *(f"--{key}={value}" for key, value in keys.items())]) == 0
    assert summary(capsys).split(": ")[1] == f"{int(reused)} of 1 runs are there already, {int(not reused)} to be made"


def test_changed_data_are_not_reused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_dataset: WriteDataset
) -> None:
    plan = "seeds: [3]\nruns:\n- {model: SessionBERT4Rec}\n"
    assert main(arguments(tmp_path, plan=plan)) == 0
    table = read_table(tmp_path)
    capsys.readouterr()
    assert main(arguments(tmp_path, plan=plan)) == 0
    assert "1 of 1 runs are there already" in capsys.readouterr().out
    write_dataset([*random_rows(n_users=20, n_items=100)[:-1], ("u1", "i1", 7)])
    assert main(arguments(tmp_path, plan=plan)) == 0
    assert "0 of 1 runs are there already, 1 to be made" in capsys.readouterr().out
    assert read_table(tmp_path) != table


def test_a_failure_is_told_in_its_row_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = "learning_rate: 1.0e+9, initializer_range: 1.0e+9"
    plan = PLAN + f"- {{name: wild, model: SessionBERT4Rec, session_features: [], {wild}}}\n"
    assert main(arguments(tmp_path, "--seeds=[1]", plan=plan)) == 0
    out = capsys.readouterr().out
    assert "FAILED: wild, seed 1: the " in out and "not finite after step" in out
    assert len(read_table(tmp_path).splitlines()) == 3
    wild = read_entries(tmp_path)[2]
    assert wild["row"] == "wild" and "not finite" in wild["failure"] and "folder" not in wild
    assert "not finite" in (tmp_path / "saved/toy/comparison-mine/failures.log").read_text()


def test_without_one_success_there_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = "seeds: 1\nruns:\n- {name: wild, model: SessionBERT4Rec, learning_rate: 1.0e+9, initializer_range: 1.0e+9}\n"
    assert main(arguments(tmp_path, plan=plan)) == 2
    assert "no run succeeded, so there is no table; the first, wild, seed 2020, failed" in capsys.readouterr().err


def test_workers_do_not_change_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path)) == 0
    other = other_base(tmp_path, "other")
    assert main(arguments(other, "--workers=3")) == 0
    assert read_table(other) == read_table(tmp_path)
    plan = yaml.safe_load((other / "saved/toy/comparison-mine/comparison.yaml").read_text())
    assert [run["name"] for run in plan["runs"]] == list(ROWS)
    assert plan["seeds"] == [2020, 2021]


def test_more_workers_than_memory_allows_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_session.compare.processes.available_bytes", lambda: 3 * 2**30)
    assert main(arguments(tmp_path, "--workers=50", "--seeds=30")) == 2
    error = capsys.readouterr().err
    assert "workers is 50, and a run takes 0." in error and "GiB that are free; allowed: up to " in error
    assert not (tmp_path / "saved").exists()


# Every key that decided on the numbers of the first version, its defaults included.
FIRST_VERSION = """\
baseline: plain
seeds: 2
keys: {model: SessionBERT4Rec, n_layers: 2, n_heads: 2, hidden_size: 8, inner_size: 16, attn_dropout_prob: 0.0,
  MAX_ITEM_LIST_LENGTH: 8, initializer_range: 0.05, layer_norm_eps: 1.0e-12, mask_ratio: 0.2, ft_ratio: 0.0,
  item_loss: full_softmax, learner: adamw, learning_rate: 0.005, weight_decay: 0.05, train_batch_size: 4, epochs: 6,
  eval_step: 2, stopping_step: 10, num_negatives: 10, use_gpu: False, checkpoint_interval: 0}
runs:
- {name: plain, session_features: [], hidden_dropout_prob: 0.2}
- {name: sessions, session_features: [ST, SSE, TSA], max_session_segments: 3, temporal_dim: 4, hidden_dropout_prob: 0.3}
"""


def test_the_numbers_are_those_of_the_first_version(tmp_path: Path) -> None:
    """Metrics of version 0.1 on the same data, told, inferred and withheld, from two workers."""
    file = tmp_path / "first.yaml"
    file.write_text(FIRST_VERSION)
    places = [f"--data_path={tmp_path / 'data'}", f"--checkpoint_dir={tmp_path / 'saved'}"]
    assert main(["compare", "--dataset=toy", f"--plan={file}", "--workers=2", *places]) == 0
    expected = json.loads(Path(__file__).with_name("first_version.json").read_text())
    entries = read_entries(tmp_path, "first")
    assert [(entry["row"], entry["seed"]) for entry in entries] == [(run["row"], run["seed"]) for run in expected]
    for entry, run in zip(entries, expected, strict=True):
        folder = tmp_path / "saved/toy/comparison-first" / entry["folder"]
        result = json.loads((folder / "result.json").read_text())
        context = json.loads((folder / "context.json").read_text())
        assert all(result[key] == run[key] for key in ("best_epoch", "num_parameters"))
        found = {"valid": result["valid"], **{name: context[name] for name in ("told", "inferred", "withheld")}}
        for name, sets in found.items():
            for candidates, metrics in sets.items():
                assert metrics == pytest.approx(run[name][candidates], abs=1e-9), (entry, name, candidates)


def test_a_dataset_that_changes_meanwhile_is_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run reads other rows than the first: no table, and afterwards one of the new rows alone."""
    from recbole_session.compare import comparing

    rows = [*random_rows(n_users=20, n_items=100)[:-1], ("u1", "i1", 7)]
    outcome = comparing._outcome

    def change(run: comparing.PlannedRun, failure: str | None) -> str:
        write_dataset(rows)
        return outcome(run, failure)

    with monkeypatch.context() as patch:
        patch.setattr(comparing, "_outcome", change)
        assert main(arguments(tmp_path)) == 2
    error = capsys.readouterr().err
    assert "dataset 'toy' changed during the comparison (" in error and "seed 2020 used checksum " in error
    assert "start the same command again to make all runs with the present data" in error
    assert not (tmp_path / "saved/toy/comparison-mine/metrics.txt").exists()
    assert main(arguments(tmp_path)) == 0
    table = read_table(tmp_path)
    fresh = other_base(tmp_path, "fresh")
    assert main(arguments(fresh)) == 0
    assert read_table(fresh) == table


def test_a_run_of_other_data_is_not_reported(tmp_path: Path) -> None:
    """A run folder that was exchanged since runs.json was written."""
    assert main(arguments(tmp_path, "--seeds=1")) == 0
    comparison = tmp_path / "saved/toy/comparison-mine"
    assert [run.seed for run in read_comparison(comparison).runs] == [2020, 2020]
    result = json.loads((run_folders(tmp_path)[0] / "result.json").read_text())
    result["dataset_checksum"] = "0" * 64
    (run_folders(tmp_path)[0] / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=r"was made with other data than the comparison \(dataset_checksum is '000000"):
        read_comparison(comparison)


def test_the_written_plan_is_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """comparison.yaml, given as --plan, is the same comparison: every run of it is reused."""
    assert main(arguments(tmp_path, "--seeds=1", learning_rate=0.01)) == 0
    table = read_table(tmp_path)
    written = tmp_path / "saved/toy/comparison-mine/comparison.yaml"
    capsys.readouterr()
    assert main(["compare", "--dataset=toy", f"--plan={written}", "--no_context"]) == 0
    assert "2 of 2 runs are there already, 0 to be made" in capsys.readouterr().out
    assert read_table(tmp_path, "comparison") == table


def test_a_run_in_another_process_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its result is then taken: one folder in the end, and not two."""
    from tests.processes import arguments as run_arguments
    from tests.processes import start

    plan = "seeds: [2020]\nruns:\n- {model: SASRec}\n"
    keys = keys_of(tmp_path, "SASRec", epochs=60, stopping_step=60)
    process = start(run_arguments("SASRec", keys), tmp_path / "stderr")
    while not any((tmp_path / "saved").glob("toy/*/last.pth")):
        assert process.is_alive()
        time.sleep(0.005)
    given = [f"--{key}={json.dumps(value)}" for key, value in keys.items()]
    (tmp_path / "mine.yaml").write_text(plan)
    assert main(["compare", "--dataset=toy", f"--plan={tmp_path / 'mine.yaml'}", "--no_context", *given]) == 0
    process.join()
    assert process.exitcode == 0
    (folder,) = run_folders(tmp_path)
    assert len((folder / "run.log").read_text().split("run folder:")) == 2


def test_a_failed_audit_is_reported_and_the_run_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The audit of a run whose weights are gone fails; its result stays in the table."""
    plan = "seeds: [3]\nruns:\n- {model: SessionBERT4Rec}\n"
    assert main(arguments(tmp_path, plan=plan)) == 0
    table = read_table(tmp_path)
    (folder,) = run_folders(tmp_path)
    weights = (folder / "best.pth").read_bytes()
    (folder / "best.pth").unlink()
    with_audit = [option for option in arguments(tmp_path, plan=plan) if option != "--no_context"]
    capsys.readouterr()
    assert main(with_audit) == 0
    out = capsys.readouterr().out
    assert "1 of 1 runs are there already, 0 to be made, the context of 1 to be audited" in out
    assert "(context audit FAILED, " in out and "best.pth" in out
    assert read_table(tmp_path) == table
    (folder / "best.pth").write_bytes(weights)
    assert main(with_audit) == 0
    assert "FAILED" not in capsys.readouterr().out
    assert (folder / "context.json").is_file()


def test_settings_are_those_of_all_rows_and_of_each(tmp_path: Path) -> None:
    assert main(arguments(tmp_path, "--seeds=1", "--baseline=" + ROWS[1], epochs=2, hidden_dropout_prob=0.2)) == 0
    settings = json.loads((tmp_path / "saved/toy/comparison-mine/settings.json").read_text())
    assert settings["keys"]["epochs"] == 2
    plain, other = settings["runs"]
    assert plain == {"name": "plain", "model": "SessionBERT4Rec", "session_features": []}
    assert (other["name"], other["hidden_dropout_prob"]) == (ROWS[1], 0.2)  # the command line is over all
    for folder in run_folders(tmp_path):
        assert yaml.safe_load((folder / "config.yaml").read_text())["hidden_dropout_prob"] == 0.2
