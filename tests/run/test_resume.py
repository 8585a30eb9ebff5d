"""Runs that are stopped, killed or broken, and go on to the same result."""

import os
import re
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_session.cli import main
from recbole_session.errors import InputError
from recbole_session.files import write_text
from recbole_session.interrupts import Interrupted
from recbole_session.run.folder import read_config
from recbole_session.run.run import Run
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session
from tests.conftest import WriteDataset, random_rows
from tests.processes import CONTEXT, N_KILLS, arguments, assert_same_weights, keys_of, only_run, outcome, start


@pytest.fixture(autouse=True)
def toy(write_dataset: WriteDataset, one_thread: None) -> None:
    write_dataset(random_rows(n_users=20, n_items=100))


def uninterrupted(tmp_path: Path, model: str, **keys: object) -> Path:
    values = keys_of(tmp_path, model, **keys) | {"checkpoint_dir": str(tmp_path / "whole" / "saved")}
    run_session(model, "toy", config_dict=values)
    return only_run(tmp_path / "whole")


def break_in(monkeypatch: pytest.MonkeyPatch, epoch: int, error: BaseException) -> None:
    """Let a training step in the middle of ``epoch`` raise ``error``."""
    check = SessionTrainer._check_nan

    def broken(self: SessionTrainer, loss: torch.Tensor) -> None:
        check(self, loss)
        if self.epochs_run == epoch and self._step == 2:
            raise error

    monkeypatch.setattr(SessionTrainer, "_check_nan", broken)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("SessionBERT4Rec", {"hidden_dropout_prob": 0.3, "attn_dropout_prob": 0.2}),
        ("SessionSASRec", {"window_stride": 0.4, "worker": 1}),
        ("SASRec", {"checkpoint_interval": 1000}),
        ("SASRec", {"loss_type": "BPR", "worker": 1}),
        ("BERT4Rec", {}),
        ("GRU4Rec", {}),
        ("Pop", {"epochs": 6, "eval_step": 2}),
    ],
)
def test_a_broken_run_goes_on_to_the_same_bits(
    model: str, keys: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted(tmp_path, model, **keys)
    values = keys_of(tmp_path, model, **keys)
    with monkeypatch.context() as context:
        break_in(context, 3, RuntimeError("broken"))
        with pytest.raises(RuntimeError, match="broken"):
            run_session(model, "toy", config_dict=values)
    folder = only_run(tmp_path)
    assert torch.load(folder / "last.pth", weights_only=True)["epochs_run"] == 3
    for state in (torch.manual_seed, np.random.seed):
        state(99)  # whatever the process did before must not matter
    result = run_session(resume=folder)
    assert result["run_folder"] == str(folder)
    assert outcome(folder) == outcome(whole)
    for name in ("best.pth", "last.pth"):
        assert_same_weights(folder / name, whole / name)


@pytest.mark.parametrize("attempt", range(N_KILLS))
def test_killed_at_a_random_moment_and_resumed(attempt: int, tmp_path: Path) -> None:
    """RECBOLE_SESSION_KILLS=20 kills twenty runs instead of two."""
    keys = {"hidden_dropout_prob": 0.1, "epochs": 12}
    whole = uninterrupted(tmp_path, "SessionBERT4Rec", **keys)
    log = (whole / "run.log").read_text(encoding="utf-8")
    begin, end = (
        re.findall(pattern, log)[-1] for pattern in (r":([0-9,]+) INFO epoch 1 training", r":([0-9,]+) INFO results")
    )
    seconds = (float(end.replace(",", ".")) - float(begin.replace(",", "."))) % 60
    process = start(arguments("SessionBERT4Rec", keys_of(tmp_path, **keys)))
    # A fresh process spends its first second on imports: the clock starts when the first epoch is over.
    while not any("epoch 1 training" in log.read_text() for log in tmp_path.glob("saved/toy/*/run.log")):
        assert process.is_alive()
        time.sleep(0.001)
    time.sleep(np.random.default_rng(attempt).uniform(0, seconds))
    process.kill()
    process.join()
    folder = only_run(tmp_path)
    if not (folder / "result.json").exists():
        run_session("SessionBERT4Rec", "toy", config_dict=keys_of(tmp_path, **keys), resume=True)
    assert outcome(folder) == outcome(whole)
    assert not list(folder.glob(".*.tmp"))


def _killed_while_saving(values: dict[str, object], number: int, renamed: bool) -> None:
    """Kill this process within, or right after, its ``number``-th write of a checkpoint."""
    torch.set_num_threads(1)
    from recbole_session import files
    from recbole_session.run import checkpoint

    writes = []
    save, sync = checkpoint.torch.save, files.os.fsync

    def half(state: object, path: Path) -> None:
        save(state, path)
        writes.append(path)
        if len(writes) == number and not renamed:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def synced(descriptor: int) -> None:
        sync(descriptor)
        if len(writes) == number and renamed:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.torch.save, files.os.fsync = half, synced
    run_session("SASRec", "toy", config_dict=values)


@pytest.mark.parametrize("renamed", [False, True])
def test_killed_in_the_moment_of_saving(renamed: bool, tmp_path: Path) -> None:
    """Every write of a run is cut in half, or is complete and not renamed yet; best.pth and last.pth alike."""
    whole = uninterrupted(tmp_path, "SASRec", epochs=3, eval_step=1)
    for number in (1, 2, 3, 4):
        base = tmp_path / f"{number}"
        values = keys_of(tmp_path, "SASRec", epochs=3, eval_step=1) | {"checkpoint_dir": str(base / "saved")}
        process = CONTEXT.Process(target=_killed_while_saving, args=(values, number, renamed))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        folder = only_run(base)
        assert list(folder.glob(".*.tmp"))
        run_session(resume=folder)
        assert outcome(folder) == outcome(whole)
        assert not list(folder.glob(".*.tmp"))


def _signalling(method: str, epochs_run: int, number: int) -> None:
    """Let this process send itself a signal when the trainer enters ``method`` after so many epochs."""
    original = getattr(SessionTrainer, method)

    def signalling(self: SessionTrainer, *arguments: object, **keywords: object) -> object:
        if self.epochs_run == epochs_run:
            os.kill(os.getpid(), number)
        return original(self, *arguments, **keywords)

    setattr(SessionTrainer, method, signalling)


@pytest.mark.parametrize(
    ("number", "code", "method", "epochs_run"),
    [(signal.SIGINT, 130, "_check_nan", 3), (signal.SIGTERM, 143, "_valid_epoch", 4)],
)
def test_a_signal_saves_and_prints_the_command_to_resume(
    number: int, code: int, method: str, epochs_run: int, tmp_path: Path
) -> None:
    """In the fourth epoch and in its validation: the third is the last that is finished."""
    keys = {"epochs": 5, "eval_step": 2, "checkpoint_interval": 1000}
    whole = uninterrupted(tmp_path, "SASRec", **keys)
    argv = arguments("SASRec", keys_of(tmp_path, "SASRec", **keys))
    process = start(argv, tmp_path / "stderr", first=partial(_signalling, method, epochs_run, number))
    process.join(120)
    assert process.exitcode == code
    last = (tmp_path / "stderr").read_text().splitlines()[-1]
    folder = only_run(tmp_path)
    assert torch.load(folder / "last.pth", weights_only=True)["epochs_run"] == 3
    assert last == (
        f"run_recbole_session: {signal.Signals(number).name} received: 3 finished epochs are saved; "
        f"resume with: python -m recbole_session train --resume={folder}"
    )
    assert main(["train", *last.split()[-1:]]) == 0
    assert outcome(folder) == outcome(whole)


def test_a_signal_after_the_evaluation_leaves_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, text: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        write_text(path, text)

    monkeypatch.setattr("recbole_session.run.training.write_text", write)
    with pytest.raises(Interrupted, match=r"the run in .* is finished"):
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))
    assert Run(only_run(tmp_path)).is_finished


@pytest.mark.parametrize("attempt", range(N_KILLS))
def test_a_signal_at_a_random_moment_ends_the_run_soon(attempt: int, tmp_path: Path) -> None:
    """RECBOLE_SESSION_KILLS=20 signals twenty runs instead of two."""
    keys = keys_of(tmp_path, "SASRec", epochs=100_000, eval_step=1, stopping_step=100_000, checkpoint_interval=1000)
    process = start(arguments("SASRec", keys), tmp_path / "stderr")
    while "epoch 1 training" not in ((tmp_path / "stderr").read_text() if (tmp_path / "stderr").exists() else ""):
        assert process.is_alive()
        time.sleep(0.001)
    time.sleep(np.random.default_rng(attempt).uniform(0, 0.3))
    os.kill(process.pid, (signal.SIGINT, signal.SIGTERM)[attempt % 2])
    process.join(60)
    assert process.exitcode == (130, 143)[attempt % 2]
    epochs = torch.load(only_run(tmp_path) / "last.pth", weights_only=True)["epochs_run"]
    assert f"{epochs} finished epochs are saved" in (tmp_path / "stderr").read_text().splitlines()[-1]
    assert (tmp_path / "stderr").read_text().count("train loss") - epochs in (0, 1)


def stopped_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **keys: object) -> Path:
    before = set(tmp_path.glob("saved/toy/*"))
    with monkeypatch.context() as context:
        break_in(context, 1, RuntimeError("broken"))
        with pytest.raises(RuntimeError, match="broken"):
            run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", **keys))
    (folder,) = set(tmp_path.glob("saved/toy/*")) - before
    return folder


def test_resume_takes_the_latest_unfinished_run_with_the_same_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", epochs=1))  # finished
    stopped_run(tmp_path, monkeypatch)
    wanted = stopped_run(tmp_path, monkeypatch)
    stopped_run(tmp_path, monkeypatch, seed=3)  # other keys
    free = {"epochs": 7, "show_progress": False, "eval_batch_size": 3}  # and keys that may differ
    result = run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", **free), resume=True)
    assert result["run_folder"] == str(wanted)
    assert result["epochs_run"] == 7


def test_more_epochs_are_written_down_and_fewer_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped_run(tmp_path, monkeypatch, epochs=3)
    result = run_session(config_dict={"epochs": 5}, resume=folder)
    assert result["epochs_run"] == read_config(folder)["epochs"] == 5
    (folder / "result.json").unlink()
    with pytest.raises(InputError, match="epochs is 4, but the run to be resumed has trained 5; give --epochs=5"):
        run_session(config_dict={"epochs": 4}, resume=folder)
    assert read_config(folder)["epochs"] == 5


def test_the_best_epoch_stays_where_no_epoch_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the last epoch, before the training was marked as finished."""
    keys = {"epochs": 6, "learning_rate": 0.5, "stopping_step": 20}
    whole = uninterrupted(tmp_path, "SASRec", **keys)
    result = Run(whole).result
    assert result["best_epoch"] < 5
    (whole / "result.json").unlink()
    state = torch.load(whole / "last.pth", weights_only=True)
    torch.save({**state, "finished": False}, whole / "last.pth")
    assert run_session(resume=whole)["best_epoch"] == result["best_epoch"]
    assert Run(whole).result["test"] == result["test"]


def test_a_run_killed_before_its_first_epoch_starts_over_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted(tmp_path, "SASRec")
    with monkeypatch.context() as context:
        break_in(context, 0, RuntimeError("broken"))
        with pytest.raises(RuntimeError, match="broken"):
            run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))
    assert not (only_run(tmp_path) / "last.pth").exists()
    run_session(resume=only_run(tmp_path))
    assert outcome(only_run(tmp_path)) == outcome(whole)


@pytest.mark.parametrize("broken_in", [2, 3, 4])
def test_early_stopping_goes_on_counting(broken_in: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores fall from the second epoch on: with ``stopping_step`` 3 the sixth epoch is the last."""
    validate = SessionTrainer._valid_epoch

    def scripted(self: SessionTrainer, valid_data: object, show_progress: bool = False) -> object:
        _, result = validate(self, valid_data)
        return {1: 0.1, 2: 0.9}.get(self.epochs_run, 0.5), {**result, "epoch": self.epochs_run}

    monkeypatch.setattr(SessionTrainer, "_valid_epoch", scripted)
    keys = {"epochs": 20, "eval_step": 1, "stopping_step": 3}
    whole = uninterrupted(tmp_path, "SASRec", **keys)
    with monkeypatch.context() as context:
        break_in(context, broken_in, RuntimeError("broken"))
        with pytest.raises(RuntimeError, match="broken"):
            run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", **keys))
    result = run_session(resume=only_run(tmp_path))
    assert (result["epochs_run"], result["best_epoch"]) == (6, 1)
    assert result["valid"]["random"]["epoch"] == 2
    assert outcome(only_run(tmp_path)) == outcome(whole)


def test_a_run_killed_after_training_only_evaluates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = keys_of(tmp_path, "SASRec", epochs=8, eval_step=1, stopping_step=0, learning_rate=0.5)  # stops early
    whole = run_session("SASRec", "toy", config_dict=keys)
    assert whole["epochs_run"] < 8
    folder = only_run(tmp_path)
    expected = outcome(folder)
    for name in ("result.json", "ranks.csv", "best.pth"):
        (folder / name).unlink()
    monkeypatch.setattr(SessionTrainer, "_train_epoch", None)
    run_session(resume=folder)
    assert outcome(folder) == expected
    assert (folder / "best.pth").exists()


def test_what_cannot_be_resumed_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dataset: WriteDataset
) -> None:
    keys = keys_of(tmp_path, "SASRec")
    with pytest.raises(InputError, match="holds no unfinished run of SASRec with these keys"):
        run_session("SASRec", "toy", config_dict=keys, resume=True)
    with pytest.raises(InputError, match="allowed: the folder of a run"):
        run_session(resume=tmp_path)
    folder = stopped_run(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="hidden_size is 16, but the run to be resumed has 8"):
        run_session(config_dict={"hidden_size": 16}, resume=folder)
    with pytest.raises(InputError, match="model is 'GRU4Rec', but the run to be resumed has 'SASRec'"):
        run_session("GRU4Rec", resume=folder)
    write_dataset([*random_rows(n_users=20, n_items=100)[:-1], ("u1", "i1", 7)])
    with pytest.raises(InputError, match=r"dataset 'toy' has changed since .* checksum"):
        run_session(resume=folder)
    write_dataset(random_rows(n_users=20, n_items=100))
    run_session(resume=folder)
    with pytest.raises(InputError, match="is finished"):
        run_session(resume=folder)


def test_resume_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, words in {
        ("--resume", "--resume=x"): "--resume is given twice",
        ("--resume=",): "--resume= names no folder",
        ("--resume=nowhere",): "resume is 'nowhere'",
        ("--resume",): "no model is named",
    }.items():
        assert main(["train", *argv]) == 2
        assert words in capsys.readouterr().err


def _hold(folder: Path, ready: object, done: object) -> None:
    from recbole_session.run.folder import claimed

    with claimed(folder):
        ready.set()
        done.wait(30)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped_run(tmp_path, monkeypatch)
    ready, done = CONTEXT.Event(), CONTEXT.Event()
    process = CONTEXT.Process(target=_hold, args=(folder, ready, done))
    process.start()
    assert ready.wait(30)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(InputError, match="another process is running in"):
        run_session(resume=folder)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before
    process.kill()  # a killed process holds no claim
    process.join()
    run_session(resume=folder)
