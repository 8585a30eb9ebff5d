"""The live view of a comparison, worked out by hand."""

import json
from pathlib import Path

import pytest

from recbole_session.compare import planned_run
from recbole_session.compare.planned_run import PlannedRun
from recbole_session.compare.resolving import ResolvedRow
from recbole_session.config.session_config import SessionConfig
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session
from tests.conftest import TINY_MODEL, WriteDataset, random_rows

ROWS = [ResolvedRow(name, SessionConfig("Pop", "toy"), "") for name in ("one", "two")]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_run.time, "monotonic", lambda: 1000.0)


def test_before_the_first_epoch_nothing_is_estimated() -> None:
    runs = [PlannedRun(row, seed) for seed in (1, 2) for row in ROWS]
    runs[0].started = 990.0
    cells, line = planned_run.describe_runs(runs, runs, 2)
    assert cells == [("one", "0/2", "seed 1: begun 10 s ago", "?"), ("two", "0/2", "", "?")]
    assert line == "0 of 4 made"


def test_what_is_done_what_runs_and_what_is_left(tmp_path: Path) -> None:
    """Row one: 30 s for the run that ended, and 10 s of the other have passed. Row two: 40 s for 2 of 10 epochs."""
    (tmp_path / "progress.json").write_text(json.dumps({"epoch": 2, "epochs": 10, "best": 0.25}))
    reused = PlannedRun(ROWS[0], 0, tmp_path)
    runs = [PlannedRun(row, seed) for seed in (1, 2) for row in ROWS]
    runs[0].started, runs[0].seconds = 950.0, 30.0
    runs[2].started = 990.0
    runs[1].started, runs[1].folder = 960.0, tmp_path
    cells, line = planned_run.describe_runs([reused, *runs], runs, 2)
    assert cells == [
        ("one", "2/3", "seed 2: begun 10 s ago", "about 20 s"),
        ("two", "0/2", "seed 1: epoch 2 of 10, best 0.2500", "about 6 min"),  # 160 s of this run, 200 s of the next
    ]
    assert line == "1 of 4 made, about 3 min left"  # (20 + 360) / 2 s


def test_before_the_first_validation_epochs_are_counted(tmp_path: Path) -> None:
    """30 s for 3 of 4 epochs."""
    (tmp_path / "progress.json").write_text(json.dumps({"epoch": 3, "epochs": 4, "best": None}))
    run = PlannedRun(ROWS[0], 1, tmp_path, started=970.0)
    assert planned_run.describe_runs([run], [run], 1)[0] == [("one", "0/1", "seed 1: epoch 3 of 4", "about 10 s")]


def test_a_run_writes_how_far_it_is(
    tmp_path: Path, write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs, validated after each second one."""
    write_dataset(random_rows())
    seen = []

    def write(trainer: SessionTrainer) -> None:
        write_progress(trainer)
        seen.append(PlannedRun(ROWS[0], 1, trainer.run_folder).progress())

    write_progress = planned_run._write_progress
    monkeypatch.setattr(SessionTrainer, "epoch_hook", write)
    keys = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path), "use_gpu": False, **TINY_MODEL}
    result = run_session("SessionBERT4Rec", "toy", config_dict={**keys, "epochs": 3, "eval_step": 2})
    best = next(iter(result["valid"].values()))["ndcg@10"]
    assert seen == [{"epoch": n, "epochs": 3, "best": best if n == 3 else None} for n in (1, 2, 3)]


def test_a_finished_run_is_being_audited(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    run = PlannedRun(ROWS[0], 1, tmp_path, started=990.0)
    assert planned_run.describe_runs([run], [run], 1)[0] == [("one", "0/1", "seed 1: context audit", "?")]
    run.seconds = 10.0
    assert planned_run.describe_runs([run], [run], 1) == ([("one", "1/1", "", "")], "1 of 1 made")
