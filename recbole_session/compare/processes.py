"""Calls in processes of their own: one that crashes fails alone, and none outlives this process; how many fit."""

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from recbole_session.errors import InputError

_SPARE = 0.1  # of the memory that is free, left to everything else
SECONDS_TO_SAVE = 60.0  # after SIGTERM a run saves its last epoch

Ended = tuple[int, str | None, str]  # number of the call, why it failed (one sentence), what it wrote


def run_calls(
    function: Callable[..., None],
    calls: Iterable[tuple[Any, ...]],
    n_workers: int = 1,
    threads: int | None = None,
    gpus: list[str] | None = None,
) -> Generator[Ended, None, None]:
    """Call ``function(*call)`` for every call, each in a process of its own, and yield how they end, as they end.

    ``function`` is importable by name, and its result is what it writes: to files, or to standard output and error. The
    arguments can be pickled, and are taken when their process is about to start. ``n_workers`` processes run at once,
    each with so many CPU ``threads`` (torch's own choice by default) and, for worker ``i``, ``gpus[i % len(gpus)]`` as
    its CUDA_VISIBLE_DEVICES (which stays as it is by default).

    When the block that iterates is left early, by an exception or a signal, the processes get SIGTERM and time to
    save. When this process is killed, they send themselves SIGTERM.
    """
    # One process imports what a run needs, and every call is a fork of it. An interpreter per call would take 4
    # seconds for imports, which doubles the time of small comparisons. An executor gives up all calls when one of its
    # processes dies.
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["recbole_session.run.training", "torch._dynamo"])  # torch's optimisers need it
    waiting, running = enumerate(calls), {}  # type: ignore[var-annotated]
    with tempfile.TemporaryDirectory() as folder:
        try:
            while True:
                for slot in sorted(set(range(n_workers)) - {each[2] for each in running.values()}):
                    number, call = next(waiting, (None, ()))
                    if number is None:
                        break
                    log = Path(folder) / f"{number}.log"
                    gpu = gpus[slot % len(gpus)] if gpus else None
                    process = context.Process(target=_call, args=(log, threads, gpu, function, *call))
                    process.start()
                    running[process.sentinel] = (process, number, slot, log)
                if not running:
                    return
                for sentinel in wait(list(running)):
                    process, number, _, log = running.pop(sentinel)
                    process.join()
                    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
                    yield number, _reason(process.exitcode, text), text
        finally:
            _stop([each[0] for each in running.values()])


def _reason(exit_code: int, log: str) -> str | None:
    """Say in one sentence why a process ended as it did; None where it did its work."""
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (as the system does when memory runs out)" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["its process crashed without a word"]
    return lines[-1] if exit_code else None


def _stop(processes: Iterable[Any]) -> None:
    for process in processes:
        process.terminate()
    end = time.monotonic() + SECONDS_TO_SAVE
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()
        process.join()


def _call(log: Path, threads: int | None, gpu: str | None, function: Callable[..., None], *call: Any) -> None:
    """Make one call, in the process that was started for it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the comparison alone, which then ends every run once
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    sys.stdout = sys.stderr = log.open("w", encoding="utf-8", buffering=1)
    for descriptor in (1, 2):
        os.dup2(sys.stdout.fileno(), descriptor)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if threads is not None:
        import torch

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    try:
        function(*call)
    except InputError as error:
        sys.exit(str(error))  # goes to the log


def _leave_with_parent() -> None:
    """Save and leave when the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(1)


def threads_per_worker(n_workers: int) -> int | None:
    """CPU threads of each of ``n_workers`` processes; None, torch's own choice, for one or where the user chose."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return None if n_workers == 1 or "OMP_NUM_THREADS" in os.environ else max(1, cores // n_workers)


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


def available_bytes() -> int:
    """Memory that new processes may take: what the system, and this process's control group, have left."""
    meminfo = Path("/proc/meminfo")
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if meminfo.exists() and (found := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        free = int(found[1]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text) - int(used.read_text()))
    return free


def check_memory(n_workers: int, runs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse more workers than fit into memory, before anything is trained: an `InputError` says how many do.

    One batch of each of ``runs``, given by their keys, is trained and evaluated to measure what it takes.
    """
    ((_, failure, output),) = run_calls(print_peak_bytes, [(runs,)])
    if failure is not None:
        raise InputError(f"a first batch could not be computed: {failure}")
    free, peak = available_bytes() * (1 - _SPARE), int(output.split()[-1])
    fitting = max(1, int(free // peak))
    if n_workers > fitting:
        raise InputError(
            f"workers is {n_workers}, and a run takes {peak / 2**30:.1f} GiB (measured) of {free / 2**30:.1f} GiB that "
            f"are free; allowed: up to {fitting}"
        )


def print_peak_bytes(runs: Sequence[Mapping[str, Any]]) -> None:
    """Print the peak memory of this process after one training step and one evaluation batch of each run.

    Adam's two moments, the copy of the best weights, and the copy of all of it for the checkpoint are added as six
    times the size of the weights.
    """
    import resource

    weights = max(map(_first_batch, runs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(peak + 6 * weights)


def _first_batch(keys: Mapping[str, Any]) -> int:
    """Train on one batch, evaluate one, and return the bytes of the weights; the rest is free again then."""
    from recbole_session.config.session_config import SessionConfig
    from recbole_session.run.build import build

    config = SessionConfig(config_dict=keys)
    parts = build(config)
    network, evaluator = parts.model, parts.evaluator
    losses = network.calculate_loss(next(iter(parts.train)).to(config["device"]))
    loss: Any = sum(losses) if isinstance(losses, tuple) else losses
    if loss.requires_grad:
        loss.backward()
    if parts.valid:
        evaluator.evaluate(network, [next(iter(parts.valid))], config["device"], list(evaluator.negatives))
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
