"""Losses of the items to be named, over the whole catalogue or over a sample of it.

Shapes: ``n`` states to be named, ``d`` hidden size, ``K`` negatives. Every loss is a mean over the ``n``, 0 where
there is none, and takes states ``[n, d]``, targets (int64 ``[n]``, never 0), and weight ``[n_items, d]`` and bias
``[n_items]`` of the output layer; item 0 is padding. The sampled losses also take negatives, int64 ``[K]``, uniform,
none twice, shared by all rows; one that is a row's target is left out there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

ItemLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# Bytes of logits held at once: on a CPU few enough for its cache, elsewhere enough to keep every unit busy.
LOGITS_BYTES = {"cpu": 4 * 2**20}
LOGITS_BYTES_ELSEWHERE = 256 * 2**20
FEWEST_ROWS = 64  # but at least so many rows: a product of fewer is slow
PLAIN_LOGITS = 2**18  # up to so many, torch's own functions are as fast


def item_loss(name: str, num_negatives: int, calibration: float) -> ItemLoss:
    """Return the loss that the keys ``item_loss``, ``num_train_negatives`` and ``gbce_calibration`` describe."""
    if name.lower() == "full_softmax":
        return full_softmax
    sampled = sampled_softmax if name.lower() == "sampled_softmax" else partial(gbce, calibration=calibration)

    def loss(states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return sampled(states, targets, weight, bias, draw_negatives(len(weight), num_negatives, states.device))

    return loss


# ---- the whole catalogue


def full_softmax(states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Cross-entropy over all items, padding included, with a few rows of logits in memory at a time."""
    gradients = torch.is_grad_enabled()
    if gradients and len(states) * len(weight) > PLAIN_LOGITS:
        device = states.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return _FullSoftmax.apply(states, targets, weight, bias, weight.dtype)
        with torch.autocast(device, enabled=False):
            return _FullSoftmax.apply(states, targets, weight, bias, torch.get_autocast_dtype(device))
    step = max(len(states), 1) if gradients else rows_at_once(weight)
    parts = zip(states.split(step), targets.split(step), strict=True)
    losses = [F.cross_entropy(F.linear(rows, weight, bias), names, reduction="sum") for rows, names in parts]
    return torch.stack(losses).sum() / max(len(states), 1)


def rows_at_once(weight: Tensor) -> int:
    """How many rows of logits to hold at once."""
    n_bytes = LOGITS_BYTES.get(weight.device.type, LOGITS_BYTES_ELSEWHERE)
    return max(FEWEST_ROWS, n_bytes // (weight.element_size() * len(weight)))


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy whose forward pass also computes the gradients.

    The logits of some rows at a time give their share of the loss and of all gradients. Neither the logits
    ``[n, n_items]`` nor their gradient are ever whole (as in P.-L. Hsu et al., "Liger Kernel: Efficient Triton
    Kernels for LLM Training", arXiv:2410.10989, and E. Wijmans et al., "Cut Your Losses in Large-Vocabulary Language
    Models", ICLR 2025).
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, product_dtype: torch.dtype
    ) -> Tensor:
        """Return the loss, a scalar; matrix products take ``product_dtype``, everything else that of the weight."""
        loss = weight.new_zeros(())
        grad_states = torch.empty_like(states)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        step = rows_at_once(weight)
        factor, offset = weight.to(product_dtype), bias.to(product_dtype)
        for rows in (slice(start, start + step) for start in range(0, len(states), step)):
            some_states, some_targets = states[rows], targets[rows].unsqueeze(1)
            logits = torch.addmm(offset, some_states.to(product_dtype), factor.t()).to(weight.dtype)  # [c, n_items]
            highest = logits.amax(1, keepdim=True)
            loss += (highest - logits.gather(1, some_targets)).sum()
            odds = logits.sub_(highest).exp_()  # in place: a probability times the total
            total = odds.sum(1, keepdim=True)
            loss += total.log().sum()
            # d loss / d logits = (odds / total - one_hot) / n. Small matrices are divided, not the large one.
            odds.scatter_add_(1, some_targets, -total)
            divisor = total * len(states)
            grad_bias.addmv_(odds.t(), 1 / divisor[:, 0])
            odds = odds.to(product_dtype)
            grad_states[rows] = torch.mm(odds, factor).div_(divisor)
            _add_product(grad_weight, odds.t(), (some_states / divisor).to(product_dtype))
        ctx.save_for_backward(grad_states, grad_weight, grad_bias)
        return loss / len(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments."""
        grad_states, grad_weight, grad_bias = ctx.saved_tensors
        if grad_loss.device.type != "cpu" or float(grad_loss) != 1:  # reading it elsewhere forces a GPU sync
            grad_states, grad_weight, grad_bias = (part * grad_loss for part in (grad_states, grad_weight, grad_bias))
        return grad_states, None, grad_weight, grad_bias, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to ``total``, whose dtype may be another."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


# ---- a sample of it


def draw_negatives(n_items: int, num_negatives: int, device: torch.device) -> Tensor:
    """Uniform items, none twice and never padding, int64 ``[min(num_negatives, n_items - 1)]``."""
    return torch.randperm(n_items - 1, device=device)[:num_negatives] + 1


def sampled_softmax(states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor) -> Tensor:
    r"""Cross-entropy over the target and a sample that represents all other items.

    A negative drawn with expected count :math:`Q` has :math:`-\log Q` added to its logit (Y. Bengio and J.-S.
    Senécal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model", IEEE
    Trans. Neural Networks 19(4), 2008; S. Jean et al., "On Using Very Large Target Vocabulary for Neural Machine
    Translation", ACL 2015), so that the sum of exponentials is right on average. The target is always included and
    keeps its logit. With every item drawn this is the cross-entropy over all items but padding.
    """
    positive, negative, is_target = _sampled_logits(states, targets, weight, bias, negatives)
    n_sampled = (len(negatives) - is_target.sum(1, keepdim=True)).clamp(min=1)  # [n, 1]
    expected_count = n_sampled / (len(weight) - 2)  # of each item that is neither padding nor target
    negative = (negative - expected_count.log()).masked_fill(is_target, float("-inf"))
    losses = torch.cat((positive.unsqueeze(1), negative), dim=1).logsumexp(1) - positive  # [n]
    return losses.sum() / max(len(states), 1)


def gbce(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor, calibration: float
) -> Tensor:
    r"""Generalised binary cross-entropy, :math:`-(\beta\log\sigma(s^+) + \sum\log(1 - \sigma(s^-))) / (K + 1)`.

    With few negatives, binary cross-entropy learns probabilities that are too high; the exponent
    :math:`\beta` of the positive's probability undoes that (A. V. Petrov and C. Macdonald, "gSASRec: Reducing
    Overconfidence in Sequential Recommendation Trained with Negative Sampling", RecSys 2023). A ``calibration``
    :math:`t` of 0 is plain binary cross-entropy, 1 gives calibrated probabilities.
    """
    positive, negative, is_target = _sampled_logits(states, targets, weight, bias, negatives)
    beta = gbce_beta(len(negatives), len(weight), calibration)
    n_sampled = len(negatives) - is_target.sum(1)  # [n]
    losses = beta * F.softplus(-positive) + F.softplus(negative).masked_fill(is_target, 0).sum(1)  # [n]
    return (losses / (n_sampled + 1)).sum() / max(len(states), 1)


def gbce_beta(num_negatives: int, n_items: int, calibration: float) -> float:
    r"""Return :math:`\beta = \alpha(t(1 - 1/\alpha) + 1/\alpha)` at the sampling rate :math:`\alpha = K / (|I| - 1)`.

    ``n_items`` counts the padding, :math:`|I|` does not.
    """
    rate = min(num_negatives / max(n_items - 2, 1), 1.0)
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def _sampled_logits(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, negatives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the targets ``[n]`` and negatives ``[n, K]``, and whether a negative is the target, bool ``[n, K]``."""
    items = torch.cat((targets, negatives))
    # One look-up for both: its gradient is as large as the weight.
    some_weight, some_bias = F.embedding(items, weight), bias[items]
    n = len(targets)
    positive = (states * some_weight[:n]).sum(1) + some_bias[:n]
    negative = F.linear(states, some_weight[n:], some_bias[n:])
    return positive, negative, negatives == targets.unsqueeze(1)
