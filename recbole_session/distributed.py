"""Several processes, one run: torchrun starts them, gloo or nccl connects them; without torchrun there is one."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_session.errors import InputError

Value = TypeVar("Value")

_SECONDS_TO_FREE = 0.2


def process_count() -> int:
    """Number of processes of this run, 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def environment_number(name: str, default: int) -> int:
    """Number that torchrun gives in an environment variable."""
    text = os.environ.get(name, str(default))
    if not re.fullmatch("[0-9]{1,6}", text):
        raise InputError(f"the environment variable {name} is {text!r}; unset it, or start the run with torchrun")
    return int(text)


@contextmanager
def processes_of(config: Any) -> Iterator[None]:
    """Join the processes that torchrun started while the block runs, and set ``config["device"]`` to this one's GPU.

    More processes than the machine has GPUs are an `InputError`.
    """
    if environment_number("WORLD_SIZE", 1) == 1 or dist.is_initialized():
        yield
        return
    on_gpu = config["device"].type == "cuda"
    if on_gpu:
        local_rank, n_gpus = environment_number("LOCAL_RANK", 0), torch.cuda.device_count()
        if local_rank >= n_gpus:
            raise InputError(
                f"torchrun --nproc_per_node={os.environ.get('LOCAL_WORLD_SIZE')} is more than the {n_gpus} GPUs of "
                "this machine; allowed: a process per GPU, or --use_gpu=False for the CPU"
            )
        config["device"] = torch.device("cuda", local_rank)
        torch.cuda.set_device(local_rank)
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    except ValueError as error:  # WORLD_SIZE without what else torchrun sets
        raise InputError(f"{error}; unset WORLD_SIZE, or start the run with torchrun") from error
    try:
        yield
    finally:
        # Gloo's thread still frees the tensors of the last exchange, for which it needs Python's lock, when the group
        # is destroyed under that lock and waits for the thread: seen to hang with torch 2.7, not with 2.13.
        time.sleep(_SECONDS_TO_FREE)
        dist.destroy_process_group()


def on_first_process(make: Callable[[], Value]) -> Value:
    """Call ``make`` in the first process; all return its value, or raise its `InputError`."""
    if process_count() == 1:
        return make()
    answer: list[Any] = [None, None]
    if process_rank() == 0:
        try:
            answer = [make(), None]
        except InputError as error:
            answer = [None, str(error)]
    dist.broadcast_object_list(answer, src=0)
    value, message = answer
    if message is not None:
        raise InputError(message)
    return value


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows ``[n, columns]`` of all processes, on the CPU; ``n`` may differ between them and be 0."""
    if process_count() == 1:
        return rows
    parts: list[Any] = [None] * process_count()
    dist.all_gather_object(parts, rows)
    return torch.cat(parts)


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes; ``value`` itself does not change."""
    if process_count() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / process_count()
