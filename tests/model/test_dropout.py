import pytest
import torch
from torch import nn

from recbole_session.model.dropout import Dropout, dropout_multiplier


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.9])
def test_multiplier_is_unbiased_and_has_two_values(probability: float) -> None:
    torch.manual_seed(0)
    multiplier = dropout_multiplier(torch.Size([400, 1000]), probability, torch.float64)
    dropped = multiplier == 0
    # Four standard deviations of a mean of 400,000 draws.
    assert float(dropped.double().mean()) == pytest.approx(probability, abs=4 * (probability / 4e5) ** 0.5)
    assert multiplier[~dropped].unique().tolist() == pytest.approx([1 / (1 - probability)], rel=2e-4)
    # The mean over the 2^16 equally likely bits is 1 to rounding.
    n_dropped = round(probability * 2**16)
    assert float(multiplier.max()) * (2**16 - n_dropped) / 2**16 == pytest.approx(1, abs=1e-12)


def test_neighbours_rows_and_calls_are_independent() -> None:
    """Four numbers come from one random word; none may say anything of another."""
    torch.manual_seed(0)
    first, second = (dropout_multiplier(torch.Size([250_000]), 0.5, torch.float32) > 0 for _ in range(2))
    pairs = [(first[:-lag], first[lag:]) for lag in (1, 2, 3, 4, 8, 64)] + [(first, second)]
    for left, right in pairs:
        assert float((left == right).float().mean()) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 1, 7), (0, 4)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    multiplier = dropout_multiplier(torch.Size(shape), 0.5, torch.float32)
    assert multiplier.shape == shape
    assert set(multiplier.flatten().tolist()) <= {0.0, 2.0}


def test_torch_seed_decides() -> None:
    """A checkpoint keeps torch's random state and no other."""
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append([dropout_multiplier(torch.Size([64]), 0.5, torch.float32) for _ in range(2)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(drawn[0], drawn[1], strict=True))
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert not torch.equal(*drawn[0])


def test_forward_and_gradient_are_those_of_the_multiplier() -> None:
    module, states = Dropout(0.25), torch.randn(6, 5, requires_grad=True)
    torch.manual_seed(3)
    dropped = module(states)
    torch.manual_seed(3)
    multiplier = dropout_multiplier(states.shape, 0.25, states.dtype)
    assert torch.equal(dropped, states * multiplier)
    assert torch.equal(torch.autograd.grad(dropped.sum(), states)[0], multiplier)


def test_evaluation_and_probability_0_change_nothing() -> None:
    states = torch.randn(6, 5)
    for module in (Dropout(0.5).eval(), Dropout(0.0), nn.Sequential(Dropout(0.9)).eval()):
        before = torch.get_rng_state()
        assert module(states) is states
        assert torch.equal(before, torch.get_rng_state())
