"""Several workers give what one gives, in order, and leave with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_session.converters import parallel, steam
from recbole_session.converters.parallel import map_in_order
from recbole_session.converters.rows import LineCheck
from recbole_session.converters.sources import Source
from recbole_session.errors import InputError


def square(number):
    return number * number, os.getpid()


def fail(number):
    raise ValueError(number)


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(parallel.os, "cpu_count", lambda: 2)


def test_order_and_processes(two_cores):
    results = list(map_in_order(square, range(50), parallel=True))
    assert [result for result, _ in results] == [number * number for number in range(50)]
    assert os.getpid() not in {process for _, process in results}
    assert {process for _, process in map_in_order(square, range(3), parallel=False)} == {os.getpid()}


def test_tasks_are_taken_a_few_at_a_time(two_cores):
    taken = []
    results = map_in_order(square, (taken.append(number) or number for number in range(100)), parallel=True)
    next(results)
    assert len(taken) <= 5
    results.close()


def test_an_error_in_a_worker_arrives(two_cores):
    with pytest.raises(ValueError, match="0"):
        list(map_in_order(fail, range(9), parallel=True))


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_sentence(two_cores):
    with pytest.raises(InputError, match="a worker process was killed"):
        list(map_in_order(die, range(9), parallel=True))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the worker in /proc")
def test_workers_leave_with_a_killed_parent():
    script = """
import os, signal
from recbole_session.converters import parallel
parallel.os.cpu_count = lambda: 2
results = parallel.map_in_order(parallel.os.getpgid, [0] * 9, parallel=True)
next(results)
print(parallel.multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    worker = int(subprocess.run(command, check=False, env=environment, stdout=subprocess.PIPE).stdout)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("a worker outlived its killed parent by ten seconds")


@pytest.mark.parametrize("slot_bytes", [2 << 20, 1 << 20])  # the second is too small for most blocks
def test_steam_in_parallel_reads_the_same(tmp_path, monkeypatch, two_cores, slot_bytes):
    lines = [
        f"{{u'username': u'u {n % 97}', u'product_id': u'{n % 13}', u'date': u'2017-01-{n % 28 + 1:02}'}}\n"
        for n in range(40_000)
    ]
    lines[20_000] = "damaged\n"
    path = tmp_path / "steam_reviews.json"
    path.write_text("".join(lines))
    read = {}
    monkeypatch.setattr(parallel, "SLOT_BYTES", slot_bytes)
    for limit in (0, 1 << 60):
        monkeypatch.setattr(steam, "PARALLEL_BYTES", limit)
        check = LineCheck("x")
        blocks = list(steam.read_steam(Source(path), check))
        read[limit] = [np.concatenate(column).tolist() for column in zip(*blocks, strict=True)]
        assert len(blocks) > 2
        assert (check.good, [line for line, _ in check.first]) == (39_999, [20_001])
    assert read[0] == read[1 << 60]
