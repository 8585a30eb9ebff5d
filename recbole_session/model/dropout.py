"""Dropout that costs little on a CPU, where torch spends about 8 ns on every number it drops or keeps."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout_multiplier(shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
    """0 with ``probability``, else ``1 / (1 - probability)``, on the CPU.

    Each number takes 16 random bits, so ``probability``, in [0, 1), is rounded to a multiple of 2^-16. The other value
    follows from the rounded one, so that the mean is exactly 1. The bits come from numpy's SFC64, four numbers from
    each of its words. It is seeded from torch's global generator, the only one whose state has to be saved.
    """
    count = shape.numel()
    seed = int(torch.randint(2**63 - 1, ()))
    n_words = count // 4 + 1
    words = np.random.Generator(np.random.SFC64(seed)).integers(
        -(2**63), 2**63 - 1, n_words, dtype=np.int64, endpoint=True
    )
    bits = torch.from_numpy(words).view(torch.int16)[:count]  # -32768 ... 32767, each equally likely
    n_dropped = min(round(probability * 2**16), 2**16 - 1)
    kept = torch.empty(count, dtype=dtype)
    torch.ge(bits, n_dropped - 2**15, out=kept)  # straight to floating point: a bool in between takes twice as long
    return kept.mul_(2**16 / (2**16 - n_dropped)).view(shape)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with a faster source of random bits on the CPU; nothing at all in evaluation."""

    def forward(self, states: Tensor) -> Tensor:
        """Any shape, which stays."""
        if not self.training or self.p == 0:
            return states
        if states.device.type != "cpu" or torch.compiler.is_compiling():  # numpy cannot be compiled
            return F.dropout(states, self.p)
        return states * dropout_multiplier(states.shape, self.p, states.dtype)
