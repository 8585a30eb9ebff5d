"""Jobs in processes of their own: a crash is a job's failure, and when this process dies they leave too."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recbole_session.errors import InputError

POLL_SECONDS = 0.05
# Imported once, not by every process; the last is what torch's optimisers import when they are first used.
_PRELOADED = ["recbole_session.run.training", "torch._dynamo"]
SECONDS_TO_SAVE = 60.0  # after SIGTERM a run saves its last epoch


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    number : int
        Of the job, from 0.
    value : object
        What its function returned; None after a failure.
    failure : str or None
        One sentence.
    log : str
        What the process wrote to stderr.
    seconds : float
    """

    number: int
    value: Any
    failure: str | None
    log: str
    seconds: float


@dataclass
class _Running:
    number: int
    slot: int
    process: Any
    connection: Connection
    log: Path
    start: float = field(default_factory=time.monotonic)


def context() -> Any:
    """Return the way processes are started: forked from one that has imported what runs need."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(_PRELOADED)
    return forkserver


def run_jobs(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    n_workers: int = 1,
    threads: int | None = None,
    gpus: Sequence[str] = (),
) -> Generator[Outcome, None, None]:
    """Call ``function(*job)`` for every job, each in a process of its own, and yield the outcomes as they come.

    Parameters
    ----------
    function : callable
        Importable by name; takes and returns what can be pickled.
    jobs : sequence of tuple
        Arguments of the calls.
    n_workers : int
        How many processes run at once.
    threads : int, optional
        CPU threads of each; torch's own choice where it is left out.
    gpus : sequence of str
        Values of CUDA_VISIBLE_DEVICES; worker ``i`` gets number ``i % len(gpus)``. None leaves it as it is.

    Notes
    -----
    When the block that iterates is left early, by an exception or a signal, the processes get SIGTERM and time to
    save. When this process is killed, they notice that their connection is closed, and do the same.
    """
    waiting = deque(enumerate(jobs))
    free = list(range(n_workers))
    running: list[_Running] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and free:
                    number, job = waiting.popleft()
                    slot = free.pop(0)
                    gpu = gpus[slot % len(gpus)] if gpus else None
                    running.append(_start(function, number, job, slot, threads, gpu, Path(folder)))
                ended = [each for each in running if not each.process.is_alive()]
                for each in ended:
                    running.remove(each)
                    free = sorted([*free, each.slot])
                    yield _outcome(each)
                if not ended:
                    time.sleep(POLL_SECONDS)
        finally:
            _stop(running)


def _start(
    function: Callable[..., Any],
    number: int,
    job: tuple[Any, ...],
    slot: int,
    threads: int | None,
    gpu: str | None,
    folder: Path,
) -> _Running:
    start_method = context()
    ours, theirs = start_method.Pipe()
    log = folder / f"{number}.log"
    process = start_method.Process(target=_work, args=(theirs, log, threads, gpu, function, job))
    process.start()
    theirs.close()
    return _Running(number, slot, process, ours, log)


def _outcome(ended: _Running) -> Outcome:
    """Read the answer of a process that has ended."""
    ended.process.join()
    answer = None
    try:
        if ended.connection.poll():
            answer = ended.connection.recv()
    except (EOFError, OSError):
        pass
    ended.connection.close()
    log = ended.log.read_text(encoding="utf-8", errors="replace") if ended.log.exists() else ""
    value, failure = answer if answer is not None else (None, _reason(ended.process.exitcode, log))
    return Outcome(ended.number, value, failure, log, time.monotonic() - ended.start)


def _reason(exit_code: int, log: str) -> str:
    """Say in one sentence why a process ended without an answer."""
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (as the system does when memory runs out)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it wrote nothing")
    return f"its process crashed: {last}"


def _stop(running: Sequence[_Running]) -> None:
    for each in running:
        each.process.terminate()
    end = time.monotonic() + SECONDS_TO_SAVE
    for each in running:
        each.process.join(max(0.0, end - time.monotonic()))
        if each.process.is_alive():
            each.process.kill()
            each.process.join()
        each.connection.close()


def _work(
    connection: Connection,
    log: Path,
    threads: int | None,
    gpu: str | None,
    function: Callable[..., Any],
    job: tuple[Any, ...],
) -> None:
    """Do one job, in the process that was started for it."""
    threading.Thread(target=_leave_when_closed, args=(connection,), daemon=True).start()
    with log.open("w", encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if threads is not None:
        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    code = 0
    try:
        connection.send((function(*job), None))
    except InputError as error:
        connection.send((None, str(error)))
    except KeyboardInterrupt as error:
        print(error or "interrupted", file=sys.stderr)
        code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without waiting for what libraries left running


def _leave_when_closed(connection: Connection) -> None:
    """Save and leave when the process that wants the answer is gone."""
    try:
        connection.poll(None)  # nothing is ever sent: it returns when the other end is closed
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(1)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_worker(n_workers: int) -> int | None:
    """CPU threads of each of ``n_workers`` processes; None, torch's own choice, for one or where the user chose."""
    return None if n_workers == 1 or "OMP_NUM_THREADS" in os.environ else max(1, cores() // n_workers)


def visible_gpus(keys: Mapping[str, Any]) -> list[str]:
    """GPUs to share out among runs with these keys: those of ``gpu_id``, else of the environment, else all.

    An empty list leaves the environment as it is.
    """
    if keys.get("use_gpu") is False:
        return []
    named = keys.get("gpu_id", os.environ.get("CUDA_VISIBLE_DEVICES"))
    if named is not None:
        return [name.strip() for name in str(named).split(",")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
