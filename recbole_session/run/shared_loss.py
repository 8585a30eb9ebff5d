"""The loss of one batch that several processes share.

Every process walks through the same batches in the same order and computes the loss of its share of each. The shares'
losses are weighted so that their mean is the loss of the whole batch.
"""

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recbole_session.distributed import process_count, process_rank
from recbole_session.model.contract import SessionModel, loss_terms


class _Loss(nn.Module):
    """The loss as a forward pass, which is what DistributedDataParallel wraps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Any:
        return self.model.calculate_loss(batch)


class SharedLoss:
    """Loss of this process's share of a batch, scaled so that its mean over processes is the loss of the batch.

    A model's loss is a mean over terms: rows, or the items that were masked. Shares hold different numbers of terms,
    so the mean of their means would be wrong. With ``t`` terms here, ``T`` in all and ``n`` processes, the loss is
    multiplied by ``n t / T``. DistributedDataParallel averages the gradients over processes, which then gives the
    mean over all terms.

    Random numbers that are drawn before the batch is shared out (the masks) come from a stream that is in step in all
    processes. Those drawn after it (dropout) come from a stream of each process's own.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model, self.device = model, device
        self.wrapped = DistributedDataParallel(_Loss(model), find_unused_parameters=True)
        self.rank, self.count = process_rank(), process_count()
        self._gpus = [device] if device.type == "cuda" else []
        self._own: list[Tensor] = []

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Seed this process's own stream from seed, epoch and rank alone, so that no checkpoint has to hold it."""
        with torch.random.fork_rng(self._gpus):
            torch.manual_seed(hash((seed, epoch, self.rank)))
            self._own = self._random_states()

    def __call__(self, batch: Interaction) -> Any:
        """Loss of this share (a scalar, or a tuple of them) of ``batch``, a mean over rows or terms."""
        if isinstance(self.model, SessionModel):
            batch.update(Interaction(self.model.draw_task(batch)))
        # A model that only counts (Pop) must count every row in every process.
        counts_only = bool(self.model.other_parameter())
        begin, end = (len(batch) * part // self.count for part in (self.rank, self.rank + 1))
        share = batch if counts_only else batch[begin:end]
        n_terms = loss_terms(self.model, share)
        mean_terms = n_terms if counts_only else loss_terms(self.model, batch) / self.count  # over the processes
        with torch.random.fork_rng(self._gpus):
            torch.set_rng_state(self._own[0])
            for gpu, state in zip(self._gpus, self._own[1:], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            # A share without terms: the whole batch's loss, times zero, gives all parameters a gradient.
            loss = self.wrapped(share if n_terms > 0 else batch)
            self._own = self._random_states()
        scale = n_terms / max(mean_terms, 1 / self.count)
        return tuple(part * scale for part in loss) if isinstance(loss, tuple) else loss * scale

    def _random_states(self) -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._gpus)]
