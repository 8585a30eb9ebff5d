"""Calls in processes of their own: crashes, GPUs, Ctrl-C, and a parent that is killed."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from recbole_session.compare.processes import run_calls, threads_per_worker, visible_gpus
from recbole_session.errors import InputError
from tests.processes import CONTEXT


def work(what: str) -> None:
    """Do what a run may do to its process."""
    if what == "mistake":
        raise InputError("epochs is 0; allowed: a whole number from 1")
    if what == "bug":
        raise ZeroDivisionError("division by zero")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "crash":
        os._exit(3)
    print(f"{what} on GPU {os.environ.get('CUDA_VISIBLE_DEVICES')} with {os.environ.get('OMP_NUM_THREADS')} threads")


def test_a_call_that_fails_fails_alone_and_says_why() -> None:
    calls = ["mistake", "bug", "killed", "crash", "fine"]
    ended = {number: (failure, output) for number, failure, output in run_calls(work, [(each,) for each in calls], 2)}
    assert [ended[number][0] for number in range(5)] == [
        "epochs is 0; allowed: a whole number from 1",
        "ZeroDivisionError: division by zero",
        "its process was ended by SIGKILL (as the system does when memory runs out)",
        "its process crashed without a word",
        None,
    ]
    assert 'in work\n    raise ZeroDivisionError("division by zero")' in ended[1][1]
    assert ended[4][1].startswith("fine on GPU ")


def meet(folder: Path, number: int) -> None:
    """Wait until two calls run at once, so that neither worker can take both."""
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    work("here")


def test_workers_share_the_gpus_and_get_their_threads(tmp_path: Path) -> None:
    calls = [(tmp_path, number) for number in range(2)]
    output = [text for _, _, text in run_calls(meet, calls, 2, threads=3, gpus=["4", "7"])]
    assert sorted(output) == [f"here on GPU {gpu} with 3 threads\n" for gpu in ("4", "7")]


def test_threads_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(7))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_per_worker(n) for n in (1, 2, 3, 9)] == [None, 3, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_per_worker(3) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus({}) == ["3", "5"]
    assert visible_gpus({"gpu_id": "1"}) == ["1"]
    assert visible_gpus({"use_gpu": False, "gpu_id": "1"}) == []


def save_slowly(folder: Path, number: int) -> None:
    """Run until SIGTERM, and then take a while to save; a second signal would end it before it has saved."""

    def save(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(0.3)
        (folder / f"{number}.saved").touch()
        sys.exit(0)

    signal.signal(signal.SIGTERM, save)
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    signal.pause()


def start_two(folder: Path) -> None:
    """Start two calls, as a comparison does in the foreground of a terminal."""
    os.setpgrp()
    with closing(run_calls(save_slowly, [(folder, 0), (folder, 1)], 2)) as ended:
        list(ended)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what happens within a second even where every core is taken; two minutes are never enough otherwise."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("group", [True, False])
def test_when_the_parent_ends_every_call_saves_and_ends(group: bool, tmp_path: Path) -> None:
    """After Ctrl-C, which a terminal sends to the whole foreground group, and after ``kill -9`` of the parent."""
    parent = CONTEXT.Process(target=start_two, args=(tmp_path,))
    parent.start()
    pid_files = [tmp_path / "0.pid", tmp_path / "1.pid"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in pid_files))
    if group:
        os.killpg(parent.pid, signal.SIGINT)
    else:
        os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    wait_until(lambda: (tmp_path / "0.saved").exists() and (tmp_path / "1.saved").exists())
    pids = [file.read_text() for file in pid_files]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
