"""The live view of a comparison, worked out by hand."""

import json
from pathlib import Path

import pytest

from recbole_session.compare import planned_run
from recbole_session.compare.planned_run import PlannedRun
from recbole_session.compare.resolving import ResolvedRow

ROWS = [ResolvedRow(name, "Pop", "toy", {}, {}, frozenset(), "") for name in ("one", "two")]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned_run.time, "monotonic", lambda: 1000.0)


def test_before_the_first_validation_nothing_is_estimated() -> None:
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


def test_a_finished_run_is_being_audited(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    run = PlannedRun(ROWS[0], 1, tmp_path, started=990.0)
    assert planned_run.describe_runs([run], [run], 1)[0] == [("one", "0/1", "seed 1: context audit", "?")]
    run.seconds = 10.0
    assert planned_run.describe_runs([run], [run], 1) == ([("one", "1/1", "", "")], "1 of 1 made")
