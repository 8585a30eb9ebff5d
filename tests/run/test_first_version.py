"""Same seed, same numbers as the first version: ``first_version.json`` was made by it, on one thread."""

import json
import re
from pathlib import Path

import pytest

from recbole_session.run.run import Run
from recbole_session.run.training import run_session
from tests.conftest import WriteDataset, random_rows

FIRST = json.loads(Path(__file__).with_name("first_version.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", FIRST["runs"])
def test_same_seed_same_numbers(name: str, tmp_path: Path, write_dataset: WriteDataset) -> None:
    expected = FIRST["runs"][name]
    write_dataset(random_rows(n_users=12, n_items=60))
    keys = {**FIRST["keys"], **expected["keys"], "data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path)}
    run = Run(run_session(expected["model"], "toy", config_dict=keys)["run_folder"])
    losses = re.findall(r"train loss: ([-\d.]+)", (run.folder / "run.log").read_text(encoding="utf-8"))
    assert list(map(float, losses)) == pytest.approx(expected["losses"], rel=1e-5)
    ranks = run.ranks()
    assert {set_: ranks[f"rank_{set_}"].tolist() for set_ in expected["ranks"]} == expected["ranks"]
    for split in ("valid", "test"):
        assert run.result[split].keys() == expected[split].keys()
        for candidates, metrics in expected[split].items():
            assert run.result[split][candidates] == pytest.approx(metrics, rel=1e-6)
