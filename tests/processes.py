"""Runs in processes of their own, which tests may kill, signal or connect."""

import faulthandler
import json
import multiprocessing
import os
import random
import socket
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from tests.conftest import TINY_MODEL

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["recbole_session.run.training", "tests.conftest"])  # imported once, forked often

N_KILLS = int(os.environ.get("RECBOLE_SESSION_KILLS", "2"))  # 20 for a long test

# What may differ between two runs of the same keys.
CLOCKS = ("train_seconds", "eval_seconds", "run_folder")


def keys_of(base: Path, model: str = "SessionBERT4Rec", **keys: object) -> dict[str, object]:
    """Keys of a run of a second or less on dataset ``toy`` under ``base``."""
    small = {"hidden_size": 8, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 8, "train_batch_size": 16}
    values = dict(TINY_MODEL if model == "SessionBERT4Rec" else {"train_batch_size": 16} if model == "Pop" else small)
    values |= {"data_path": str(base / "data"), "checkpoint_dir": str(base / "saved"), "num_negatives": 10}
    values |= {"use_gpu": False}
    values |= {} if model == "Pop" else {"epochs": 6, "eval_step": 2}
    return {**values, "checkpoint_interval": 0, **keys}


def start(
    argv: list[str],
    errors: Path | None = None,
    environment: dict[str, str] | None = None,
    first: Callable[[], None] | None = None,
) -> BaseProcess:
    """Start ``recbole-session train`` with ``argv``, its stderr going to the file ``errors``, after ``first``."""
    process = CONTEXT.Process(target=_main, args=(argv, errors, environment or {}, first))
    process.start()
    return process


def _main(argv: list[str], errors: Path | None, environment: dict[str, str], first: Callable[[], None] | None) -> None:
    os.environ.update(environment)
    run_command(["train", *argv], errors, first, "run_recbole_session")


def run_command(
    argv: list[str],
    log: Path | None = None,
    first: Callable[[], None] | None = None,
    program: str = "recbole-session",
) -> None:
    """Run ``recbole-session`` with ``argv`` in this process, which ends with it; ``log`` takes what it prints."""
    from recbole_session.cli import main

    torch.set_num_threads(1)
    if first is not None:
        first()
    with open(log or os.devnull, "a", encoding="utf-8") as file:  # noqa: PTH123
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        sys.stdout = sys.stderr = file
        faulthandler.enable(file)  # a crash without a traceback leaves at least its stack
        try:
            code = main(argv, program)
        except BaseException:
            traceback.print_exc()
            code = 1
    os._exit(code)


def kill_at_random(
    make: Callable[[], BaseProcess], seconds: float, has_begun: Callable[[], bool] = lambda: True
) -> None:
    """Kill `N_KILLS` processes, one after the other, at random moments.

    Parameters
    ----------
    make : callable
        Starts a process.
    seconds : float
        How long one runs at most, after it has begun; halved whenever one ends before it is killed.
    has_begun : callable
        Whether the process that was started last has begun.
    """
    draw, n_killed = random.Random(0), 0
    for _ in range(3 * N_KILLS):
        process = make()
        while process.is_alive() and not has_begun():
            time.sleep(0.001)
        process.join(draw.uniform(0.0, seconds))
        n_killed += process.is_alive()
        seconds /= 1 if process.is_alive() else 2
        process.kill()
        process.join()
        if n_killed == N_KILLS:
            return


def arguments(model: str, keys: dict[str, object]) -> list[str]:
    """Command line of a run."""
    return [f"--model={model}", "--dataset=toy", *(f"--{key}={json.dumps(value)}" for key, value in keys.items())]


def run_together(
    argv: list[str], n: int, folder: Path, code: int = 0, first: Callable[[], None] | None = None
) -> list[str]:
    """Run ``argv`` in ``n`` connected processes, as torchrun would; returns what each wrote to stderr.

    All must leave with exit code ``code``; ``first`` is called in each before the run.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n)}
    logs = [folder / f"stderr-{port}-{rank}" for rank in range(n)]
    processes = [
        start(argv, log, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, first) for rank, log in enumerate(logs)
    ]
    for process in processes:
        process.join(60)
    codes = [process.exitcode for process in processes]
    texts = [log.read_text(encoding="utf-8") for log in logs]
    assert codes == [code] * n, "\n".join([f"exit codes {codes}", *texts])
    return texts


def outcome(folder: Path) -> tuple[dict[str, object], str]:
    """What a run found: its result without the clocks, and its ranks."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    ranks = (folder / "ranks.csv").read_text(encoding="utf-8")
    return {key: value for key, value in result.items() if key not in CLOCKS}, ranks


def assert_same_weights(one: Path, other: Path) -> None:
    """Every tensor of two checkpoints is equal to the bit."""
    left, right = (torch.load(path, weights_only=True) for path in (one, other))
    assert left["state_dict"].keys() == right["state_dict"].keys()
    for name, tensor in left["state_dict"].items():
        assert torch.equal(tensor, right["state_dict"][name]), name


def only_run(base: Path) -> Path:
    """Folder of the one run under ``base``."""
    (folder,) = (base / "saved" / "toy").iterdir()
    return folder
