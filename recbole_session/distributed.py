"""Several processes, one run: torchrun starts them, gloo or nccl connects them.

Every process walks through the same global batches in the same order and takes its share of each; the shares'
losses are weighted so that their sum is the loss of the global batch. Without torchrun everything here does
nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recbole_session.errors import InputError
from recbole_session.model.contract import SessionModel, loss_terms

Value = TypeVar("Value")


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
    """Join the processes that torchrun started, and give each its device, while the block runs.

    Parameters
    ----------
    config : SessionConfig
        ``device`` is set to the GPU of this process; all but the first process log errors only.

    Raises
    ------
    InputError
        If a machine runs more processes than it has GPUs.
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


def gather_rows(rows: Tensor, device: torch.device) -> Tensor:
    """Rows of all processes, in the order of the processes.

    Parameters
    ----------
    rows : Tensor
        int64 ``[n, columns]``, of this process; ``n`` may differ between them and be 0.
    device : torch.device
        The device that the processes exchange tensors on.

    Returns
    -------
    Tensor
        int64 ``[sum of n, columns]``, on the CPU.
    """
    if process_count() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(process_count())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=device))
    padded = torch.zeros(int(max(counts)), rows.size(1), dtype=torch.int64, device=device)
    padded[: len(rows)] = rows.to(device)
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)]).cpu()


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over the processes; ``value`` stays as it is."""
    if process_count() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / process_count()


class _Loss(nn.Module):
    """The loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Any:
        return self.model.calculate_loss(batch)


class SharedLoss:
    """Loss of this process's share of a global batch, scaled so that the mean over processes is the batch's.

    A model's loss is a mean over terms: rows, or the items that were masked. Shares hold different numbers of
    terms, so the mean of their means is another number. With ``t`` terms here, ``T`` in all and ``n`` processes,
    the loss is multiplied by ``n t / T``; the mean over processes, which is what DistributedDataParallel makes of
    the gradients, is then the mean over all terms.

    What is random before the batch is shared out (the masks) comes from a stream that is in step in all
    processes; what is random after (dropout), from a stream of each process's own.

    Parameters
    ----------
    model : nn.Module
        A RecBole model on its device.
    device : torch.device
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model, self.device = model, device
        self.wrapped = DistributedDataParallel(_Loss(model), find_unused_parameters=True)
        self.rank, self.count = process_rank(), process_count()
        self._own: list[Tensor] = []

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Start this process's own stream anew, from seed, epoch and rank alone, so that no checkpoint holds it."""
        shared = self._random()
        torch.manual_seed(hash((seed, epoch, self.rank)))
        self._own = self._random()
        self._set_random(shared)

    def __call__(self, batch: Interaction) -> Any:
        """Loss of this share (a scalar, or a tuple of them) of the global ``batch``, a mean over rows or terms."""
        if isinstance(self.model, SessionModel):
            batch.update(Interaction(self.model.draw_task(batch)))
        # A model that only counts (Pop) counts every row in every process.
        counts_only = bool(self.model.other_parameter())
        begin, end = (len(batch) * part // self.count for part in (self.rank, self.rank + 1))
        share = batch if counts_only else batch[begin:end]
        n_terms = loss_terms(self.model, share)
        mean_terms = n_terms if counts_only else loss_terms(self.model, batch) / self.count  # over the processes
        with self._own_stream():
            # Without a term of its own a process computes the whole batch's loss, times zero: its gradients must
            # exist, and for the same parameters as in one process.
            loss = self.wrapped(share if n_terms > 0 else batch)
        scale = n_terms / max(mean_terms, 1 / self.count)
        return tuple(part * scale for part in loss) if isinstance(loss, tuple) else loss * scale

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Draw torch's random numbers from this process's own stream while the block runs."""
        shared = self._random()
        self._set_random(self._own)
        try:
            yield
        finally:
            self._own = self._random()
            self._set_random(shared)

    def _random(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else states

    def _set_random(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.device)
