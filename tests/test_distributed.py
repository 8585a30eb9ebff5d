"""Two processes against one: the same losses, the same ranks, one writer."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from recbole.data.interaction import Interaction

from recbole_session.distributed import gather_rows, mean_over_processes, on_first_process, processes_of
from recbole_session.errors import InputError
from recbole_session.run.shared_loss import SharedLoss
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session
from tests.conftest import WriteDataset, random_rows
from tests.processes import arguments, keys_of, only_run, outcome, run_together

ROOT = Path(__file__).resolve().parents[1]
EXACT = {"loss_decimal_place": 12, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "dropout_prob": 0.0}


@pytest.fixture(autouse=True)
def toy(write_dataset: WriteDataset, one_thread: None) -> None:
    write_dataset(random_rows(n_users=21, n_items=60))  # shares of unequal size


def losses(folder: Path) -> list[float]:
    """Training loss of every epoch, from the log."""
    return [float(loss) for loss in re.findall(r"train loss: ([0-9.e-]+)\]", (folder / "run.log").read_text())]


def exact_keys(base: Path, model: str, **keys: object) -> dict[str, object]:
    values = keys_of(base, model, **{**EXACT, "epochs": 3, **keys})
    return {key: value for key, value in values.items() if model != "Pop" or not key.endswith("_prob")}


def one_process(base: Path, model: str, **keys: object) -> Path:
    """Folder of the run that the others are measured by."""
    values = exact_keys(base, model, **keys) | {"checkpoint_dir": str(base / "one" / "saved")}
    run_session(model, "toy", config_dict=values)
    return only_run(base / "one")


def assert_same_run(one: Path, several: Path, tolerance: float = 1e-6) -> None:
    """Losses within float noise; every rank, metric and the chosen epoch equal."""
    assert len(losses(one)) > 0
    assert losses(several) == pytest.approx(losses(one), rel=tolerance)
    (left, _), (right, _) = outcome(one), outcome(several)
    for name in ("best_epoch", "epochs_run", "num_parameters"):
        assert left[name] == right[name]
    pd.testing.assert_frame_equal(pd.read_csv(one / "ranks.csv"), pd.read_csv(several / "ranks.csv"))
    assert left["test"] == right["test"]


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        # Shares without any chosen item. TSA multiplies the noise in its frequencies by timestamps of 10^9, so that
        # without it the comparison is sharper.
        ("SessionBERT4Rec", {"train_batch_size": 5, "mask_ratio": 0.1, "session_features": ["ST", "SSE"]}),
        ("SessionSASRec", {"train_batch_size": 5, "session_features": ["SSE", "GAP"], "window_stride": 0.25}),
        ("BERT4Rec", {"train_batch_size": 12, "mask_ratio": 0.4, "clip_grad_norm": {"max_norm": 1}}),
        ("SASRec", {"train_batch_size": 13, "metrics": ["NDCG", "ItemCoverage"]}),
        ("SASRec", {"loss_type": "BPR"}),
        ("Pop", {"epochs": 2}),
    ],
)
def test_two_processes_give_the_run_of_one(model: str, keys: dict[str, object], tmp_path: Path) -> None:
    one = one_process(tmp_path, model, **keys)
    texts = run_together(arguments(model, exact_keys(tmp_path, model, **keys)), 2, tmp_path)
    two = only_run(tmp_path)
    assert_same_run(one, two)
    assert outcome(two)[0]["environment"]["processes"] == 2
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert len(list((two / "tensorboard").glob("events*"))) == len(list((one / "tensorboard").glob("events*")))
    assert "ndcg@10" in texts[0]
    assert texts[1] == "" or "find_unused_parameters" in texts[1]


def test_more_processes_than_users_in_a_batch_or_a_split(tmp_path: Path, write_dataset: WriteDataset) -> None:
    write_dataset(random_rows(n_users=2, n_items=20, shortest=6))
    keys = {"train_batch_size": 2, "epochs": 2, "num_negatives": 2, "session_features": ["SSE"]}
    one = one_process(tmp_path, "SessionBERT4Rec", **keys)
    run_together(arguments("SessionBERT4Rec", exact_keys(tmp_path, "SessionBERT4Rec", **keys)), 3, tmp_path)
    assert_same_run(one, only_run(tmp_path))


def test_torchrun(tmp_path: Path) -> None:
    keys = {"epochs": 2, "session_features": ["ST", "SSE"]}
    one = one_process(tmp_path, "SessionBERT4Rec", **keys)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    command += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", str(ROOT / "run_recbole_session.py")]
    command += arguments("SessionBERT4Rec", exact_keys(tmp_path, "SessionBERT4Rec", **keys))
    path = [str(ROOT), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, path))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("candidates     recall@10") == 1
    assert_same_run(one, only_run(tmp_path))


def test_two_processes_are_killed_and_go_on(tmp_path: Path) -> None:
    """With dropout, whose random numbers every process draws for itself."""
    keys = {"hidden_dropout_prob": 0.3, "MAX_ITEM_LIST_LENGTH": 20, "train_batch_size": 5}  # unequal shares
    values = exact_keys(tmp_path, "SessionBERT4Rec", **keys)
    whole = values | {"checkpoint_dir": str(tmp_path / "whole" / "saved")}
    run_together(arguments("SessionBERT4Rec", whole), 2, tmp_path)
    run_together(arguments("SessionBERT4Rec", values), 2, tmp_path, -signal.SIGKILL, kill_in_epoch_two)
    run_together(["--resume", *arguments("SessionBERT4Rec", values)], 2, tmp_path)
    assert outcome(only_run(tmp_path)) == outcome(only_run(tmp_path / "whole"))


class Noise(torch.nn.Module):
    """A model whose loss is what its own random stream gives."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def other_parameter(self) -> dict[str, object]:
        return {}

    def calculate_loss(self, batch: Interaction) -> torch.Tensor:
        return self.weight.sum() * torch.rand(1)


def test_each_process_draws_its_own_dropout_and_leaves_the_shared_stream_alone() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        loss, batch = SharedLoss(Noise(), torch.device("cpu")), Interaction({"user_id": torch.arange(2)})
        drawn = {}
        for epoch, rank in ((0, 0), (0, 1), (1, 0)):
            for _ in range(2):
                loss.rank, before = rank, torch.get_rng_state()
                loss.start_epoch(seed=7, epoch=epoch)
                loss.rank = 0
                found = [float(loss(batch)) for _ in range(3)]
                assert torch.equal(torch.get_rng_state(), before)
                assert drawn.setdefault((epoch, rank), found) == found  # the same again: by seed, epoch and rank
        assert len({number for found in drawn.values() for number in found}) == 9
    finally:
        dist.destroy_process_group()


def test_the_users_mistake_is_told_once(tmp_path: Path) -> None:
    argv = arguments("SessionBERT4Rec", exact_keys(tmp_path, "SessionBERT4Rec"))
    texts = run_together([*argv, "--resume"], 2, tmp_path, code=2)
    assert "holds no unfinished run" in texts[0]
    assert texts[0].count("\n") == 1
    assert texts[1] == ""
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("value", ["junk", "-1", "1e9", "9" * 30])
def test_junk_in_the_environment_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", value)
    with pytest.raises(InputError, match="the environment variable WORLD_SIZE is"), processes_of({}):
        pass


def test_alone_nothing_is_exchanged() -> None:
    rows = torch.arange(6).view(3, 2)
    assert gather_rows(rows) is rows
    assert mean_over_processes(rows) is rows
    assert on_first_process(lambda: 3) == 3


def test_workers_do_not_change_the_numbers(tmp_path: Path) -> None:
    """Masks (Python's random numbers) and negatives (numpy's) are drawn in one place for any number of workers."""
    for model, keys in (("BERT4Rec", {}), ("SASRec", {"loss_type": "BPR"}), ("SessionBERT4Rec", {})):
        found = []
        for worker in (0, 2):
            base = tmp_path / model / str(worker)
            values = keys_of(tmp_path, model, epochs=2, worker=worker, **keys) | {"checkpoint_dir": str(base / "saved")}
            run_session(model, "toy", config_dict=values)
            found.append(outcome(only_run(base)))
        assert found[0] == found[1]


def kill_in_epoch_two() -> None:
    """Runs in a process of `run_together`: kill it in the middle of epoch 2."""
    check = SessionTrainer._check_nan

    def killed(self: SessionTrainer, loss: torch.Tensor) -> None:
        check(self, loss)
        if self.epochs_run == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    SessionTrainer._check_nan = killed


def test_a_refit_is_that_of_one_process(tmp_path: Path) -> None:
    one = one_process(tmp_path, "SessionBERT4Rec", refit=True)
    run_together(arguments("SessionBERT4Rec", exact_keys(tmp_path, "SessionBERT4Rec", refit=True)), 2, tmp_path)
    several = only_run(tmp_path)
    assert_same_run(one, several, tolerance=1e-5)  # the losses of both trainings
    assert len(losses(several)) == 3 + outcome(several)[0]["refit_epochs"]
    assert (several / "refit.pth").is_file()
    assert not (several / "refit").exists()
