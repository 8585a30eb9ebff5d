"""Parsing blocks on several cores, in order, a few blocks at a time."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import NamedTuple, TypeVar

from recbole_session.converters.rows import Block
from recbole_session.errors import InputError

MAX_WORKERS = 8
SLOTS = 2 * MAX_WORKERS + 1
SLOT_BYTES = 2 << 20

Task = TypeVar("Task")
Result = TypeVar("Result")


class Placed(NamedTuple):
    """A block of lines in shared memory, or itself where it is longer than a slot."""

    slot: int
    length: int
    first_line: int
    data: bytes


def map_blocks(
    parse: Callable[[Block], Result], blocks: Iterable[Block], parallel: bool
) -> Generator[Result, None, None]:
    """Parse blocks as `map_in_order` does; they reach the workers by shared memory, not through a pipe."""
    if not parallel or not _can_fork():
        yield from map(parse, blocks)
        return
    with mmap.mmap(-1, SLOTS * SLOT_BYTES) as arena:
        yield from map_in_order(partial(_parse_placed, parse), _place(blocks, arena), True, arena)


def _place(blocks: Iterable[Block], arena: mmap.mmap) -> Generator[Placed, None, None]:
    for number, block in enumerate(blocks):
        length, slot = len(block.data), number % SLOTS  # more slots than tasks under way: this one is free
        if length > SLOT_BYTES:
            yield Placed(slot, length, block.first_line, block.data)
        else:
            arena[slot * SLOT_BYTES : slot * SLOT_BYTES + length] = block.data
            yield Placed(slot, length, block.first_line, b"")


def _parse_placed(parse: Callable[[Block], Result], placed: Placed) -> Result:
    start = placed.slot * SLOT_BYTES
    data = placed.data or _worker_arena[0][start : start + placed.length]
    return parse(Block(data, placed.first_line))


def _can_fork() -> bool:
    return (os.cpu_count() or 1) > 1 and "fork" in multiprocessing.get_all_start_methods()


def map_in_order(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    parallel: bool,
    arena: mmap.mmap | None = None,
) -> Generator[Result, None, None]:
    """Apply a module's function to tasks and yield the results in order.

    At most two tasks a worker are under way, so memory does not grow with their number. Without several
    cores, or without fork (a spawned worker would run the caller's script again), it is plain ``map``.
    """
    if not parallel or not _can_fork():
        yield from map(function, tasks)
        return
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    pending: deque[Future[Result]] = deque()
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(), arena)) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(function, task))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise InputError("a worker process was killed, most likely for want of memory: free some.") from error
        finally:
            for future in pending:
                future.cancel()


_worker_arena: list[mmap.mmap] = []  # set in a worker only, when it starts


def _start_worker(parent: int, arena: mmap.mmap | None) -> None:
    """Make this worker end when its parent does; one that is killed cannot tell its workers."""
    if arena is not None:
        _worker_arena.append(arena)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to tell
    gc.disable()  # blocks of plain values hold no cycles, and looking for some is a fifth of the time

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
