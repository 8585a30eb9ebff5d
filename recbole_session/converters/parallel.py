"""Parsing blocks on several cores, in order, a few blocks at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

MAX_WORKERS = 8

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], parallel: bool
) -> Generator[Result, None, None]:
    """Apply a module's function to tasks and yield the results in order.

    At most two tasks a worker are under way, so memory does not grow with their number. Without several
    cores, or without fork (a spawned worker would run the caller's script again), it is plain ``map``.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    if not parallel or workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(function, tasks)
        return
    pending: deque[Future[Result]] = deque()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, _leave_with, (os.getpid(),)) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _leave_with(parent: int) -> None:
    """Make this worker end when its parent does; one that is killed cannot tell its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
