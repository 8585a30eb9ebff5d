"""How many runs fit into memory at once, from what a run is measured to take."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_session.compare.processes import run_calls
from recbole_session.errors import InputError

_SPARE = 0.1  # of what is free, left to everything else


def available_bytes() -> int:
    """Memory that new processes may take: what the system, and this process's control group, have left."""
    meminfo = Path("/proc/meminfo")
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        free = min(free, int(text) - int(used.read_text()))
    return free


def check_memory(n_workers: int, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse more workers than fit into memory, before anything is trained.

    Parameters
    ----------
    n_workers : int
    runs : sequence of (dataset, keys)
        One batch of each is trained and evaluated to measure what it takes.

    Raises
    ------
    InputError
        Saying how many fit.
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


def print_peak_bytes(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Print the peak memory of this process after one training step and one evaluation batch of each run.

    Adam's two moments, the copy of the best weights, and the copy of all of it for the checkpoint are added as six
    times the size of the weights.
    """
    import resource

    weights = max(_first_batch(dataset, keys) for dataset, keys in runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(peak + 6 * weights)


def _first_batch(dataset: str, keys: Mapping[str, Any]) -> int:
    """Train on one batch, evaluate one, and return the bytes of the weights."""
    from recbole_session.config.session_config import SessionConfig
    from recbole_session.run.build import build

    config = SessionConfig(None, dataset, config_dict=keys)
    parts = build(config)
    network, evaluator = parts.model, parts.evaluator
    losses = network.calculate_loss(next(iter(parts.train)).to(config["device"]))
    loss: Any = sum(losses) if isinstance(losses, tuple) else losses
    if loss.requires_grad:
        loss.backward()
    if parts.valid:
        evaluator.evaluate(network, [next(iter(parts.valid))], config["device"], list(evaluator.negatives))
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
