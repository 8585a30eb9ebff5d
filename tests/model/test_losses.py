import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.model import losses
from recbole_session.model.losses import (
    draw_negatives,
    full_softmax,
    gbce,
    gbce_beta,
    item_loss,
    rows_at_once,
    sampled_softmax,
)
from recbole_session.model.session_bert4rec import SessionBERT4Rec
from tests.conftest import BuildConfig, WriteDataset
from tests.memory import peak_growth

NAMES = ["full_softmax", "sampled_softmax", "gbce"]


def layer(n: int, n_items: int, d: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    """States, targets, weight and bias of an output layer; what can have a gradient asks for one."""
    generator = torch.Generator().manual_seed(seed)
    states, weight, bias = (
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in ((n, d), (n_items, d), (n_items,))
    )
    return states, torch.randint(1, n_items, (n,), generator=generator), weight, bias


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(one) if grad is None else grad for grad, one in zip(found, inputs, strict=True)]


@pytest.fixture
def never_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory-saving function at every size, with three rows at a time."""
    monkeypatch.setattr(losses, "PLAIN_LOGITS", -1)
    monkeypatch.setattr(losses, "FEWEST_ROWS", 3)
    monkeypatch.setattr(losses, "LOGITS_BYTES", {"cpu": 1})


# ---- the whole catalogue


@pytest.mark.usefixtures("never_plain")
@pytest.mark.parametrize("factor", [1.0, -2.5])
@pytest.mark.parametrize(("n", "n_items", "d"), [(1, 2, 1), (3, 7, 2), (4, 7, 5), (11, 30, 4)])
def test_full_softmax_is_cross_entropy(n: int, n_items: int, d: int, factor: float) -> None:
    states, targets, weight, bias = layer(n, n_items, d)
    fast, slow = full_softmax(states, targets, weight, bias), F.cross_entropy(F.linear(states, weight, bias), targets)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    pairs = (gradients(factor * loss, states, weight, bias) for loss in (fast, slow))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("never_plain")
def test_gradients_of_full_softmax_are_those_of_small_steps() -> None:
    states, targets, weight, bias = layer(7, 6, 3)
    assert torch.autograd.gradcheck(lambda s, w, b: full_softmax(s, targets, w, b), (states, weight, bias))


@pytest.mark.usefixtures("never_plain")
def test_full_softmax_survives_logits_whose_exponential_does_not() -> None:
    states, targets, weight, bias = layer(5, 9, dtype=torch.float32)
    slow = F.cross_entropy(F.linear(states * 1e4, weight, bias), targets)
    fast = full_softmax(states * 1e4, targets, weight, bias)
    assert torch.isfinite(fast)
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(gradients(fast, states, weight), gradients(slow, states, weight), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("never_plain")
def test_full_softmax_may_go_backward_twice() -> None:
    states, targets, weight, bias = layer(5, 9)
    loss = full_softmax(states, targets, weight, bias)
    loss.backward(retain_graph=True)
    once = [one.grad.clone() for one in (states, weight, bias)]
    (3 * loss).backward()
    for one, grad in zip((states, weight, bias), once, strict=True):
        torch.testing.assert_close(one.grad, 4 * grad)


@pytest.mark.parametrize("n", [40, 3000])
def test_sizes_on_both_sides_of_the_switch_agree_with_cross_entropy(n: int) -> None:
    states, targets, weight, bias = layer(n, 101, dtype=torch.float32)
    assert (n * 101 > losses.PLAIN_LOGITS) == (n == 3000)
    fast, slow = full_softmax(states, targets, weight, bias), F.cross_entropy(F.linear(states, weight, bias), targets)
    assert ("FullSoftmax" in type(fast.grad_fn).__name__) == (n == 3000)
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(gradients(fast, states, weight, bias), gradients(slow, states, weight, bias), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.usefixtures("never_plain")
def test_without_gradients_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    states, targets, weight, bias = layer(10, 7)
    expected = full_softmax(states, targets, weight, bias)

    def refuse(*args: object) -> None:
        raise AssertionError("gradients were computed")

    monkeypatch.setattr(losses._FullSoftmax, "apply", refuse)
    with torch.no_grad():
        loss = full_softmax(states, targets, weight, bias)
    assert loss.grad_fn is None
    torch.testing.assert_close(loss, expected)


@pytest.mark.usefixtures("never_plain")
@pytest.mark.parametrize(("n", "n_items"), [(1, 2), (6, 9), (40, 300)])
def test_autocast_rounds_the_factors_of_products_alone(n: int, n_items: int) -> None:
    """bfloat16 keeps 8 bits; sums and exponentials stay in float32."""
    states, targets, weight, bias = layer(n, n_items, dtype=torch.float32)
    inputs = (states, weight, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = full_softmax(states, targets, weight, bias)
    assert loss.dtype == torch.float32
    exact = full_softmax(states, targets, weight, bias)
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    for rounded, grad in zip(gradients(loss, *inputs), gradients(exact, *inputs), strict=True):
        assert rounded.dtype == torch.float32
        assert float((rounded - grad).norm()) <= 0.02 * float(grad.norm()) + 1e-6


@pytest.mark.usefixtures("never_plain")
def test_under_autocast_a_number_too_many_for_bfloat16_is_counted() -> None:
    """The exponentials of 1,000 equal logits add up to 1,000; a sum in bfloat16 would stop at 256."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = full_softmax(
            torch.zeros(4, 2, requires_grad=True), torch.tensor([1, 2, 3, 4]), torch.ones(1000, 2), torch.zeros(1000)
        )
    assert float(loss.detach()) == pytest.approx(math.log(1000), rel=1e-5)


def test_rows_at_once_fill_the_budget_and_are_never_too_few() -> None:
    assert rows_at_once(torch.empty(1024, 1)) == losses.LOGITS_BYTES["cpu"] // 4096
    assert rows_at_once(torch.empty(10_000_000, 1)) == losses.FEWEST_ROWS


# ---- samples


@pytest.mark.parametrize(("n_items", "k"), [(2, 5), (10, 3), (10, 9), (10, 400)])
def test_negatives_are_distinct_items_without_padding(n_items: int, k: int) -> None:
    torch.manual_seed(n_items + k)
    drawn = [draw_negatives(n_items, k, torch.device("cpu")) for _ in range(60)]
    for negatives in drawn:
        assert len(set(negatives.tolist())) == len(negatives) == min(k, n_items - 1)
    assert set(torch.cat(drawn).tolist()) == set(range(1, n_items))


def test_sampled_softmax_over_everything_is_the_full_one() -> None:
    states, targets, weight, bias = layer(9, 12)
    negatives = draw_negatives(12, 11, torch.device("cpu"))
    sampled = sampled_softmax(states, targets, weight, bias, negatives)
    full = F.cross_entropy(F.linear(states, weight[1:], bias[1:]), targets - 1)  # padding is no item
    torch.testing.assert_close(sampled, full)
    pairs = (gradients(loss, states, weight, bias) for loss in (sampled, full))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_sampled_softmax_by_hand() -> None:
    """Five items; 2, 3 and 4 drawn; the target is 1, then 3."""
    states = torch.tensor([[1.0], [1.0]])
    logits = torch.tensor([[9.0], [0.3], [-0.2], [0.7], [0.1], [5.0]])
    loss = sampled_softmax(states, torch.tensor([1, 3]), logits, torch.zeros(6), torch.tensor([2, 3, 4]))
    e = math.exp
    first = -math.log(e(0.3) / (e(0.3) + 4 / 3 * (e(-0.2) + e(0.7) + e(0.1))))  # 3 of 4 others
    second = -math.log(e(0.7) / (e(0.7) + 4 / 2 * (e(-0.2) + e(0.1))))  # 2 of 4 others
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_the_mean_over_samples_points_where_the_full_loss_does() -> None:
    """The correction makes the denominator right on average; without it, the direction is off."""
    states, targets, weight, bias = layer(4, 40, seed=3)
    full = F.cross_entropy(F.linear(states, weight[1:], bias[1:]), targets - 1)
    expected = torch.cat([grad.flatten() for grad in gradients(full, states, weight, bias)])

    def mean_gradient(k: int, corrected: bool = True) -> Tensor:
        torch.manual_seed(k)
        draws = 600
        total = torch.zeros_like(expected)
        for _ in range(draws):
            negatives = draw_negatives(40, k, torch.device("cpu"))
            shift = torch.zeros(40, dtype=torch.float64)
            if not corrected:
                shift[negatives] = math.log(k / 38)  # what the loss adds is taken off again
            loss = sampled_softmax(states, targets, weight, bias + shift, negatives)
            total += torch.cat([grad.flatten() for grad in gradients(loss, states, weight, bias)])
        return total / draws

    def distance(grad: Tensor) -> float:
        return float((grad - expected).norm() / expected.norm())

    assert F.cosine_similarity(mean_gradient(20), expected, dim=0) > 0.99
    assert distance(mean_gradient(20)) < distance(mean_gradient(4))  # the bias falls with the sample
    assert distance(mean_gradient(4)) < distance(mean_gradient(4, corrected=False))


def test_gbce_by_hand() -> None:
    """Items 2, 3 and 4 drawn; the target is 1, then 3, which is left out there."""
    states = torch.tensor([[1.0], [1.0]])
    logits = torch.tensor([[9.0], [0.3], [-0.2], [0.7], [0.1], [5.0]])
    loss = gbce(states, torch.tensor([1, 3]), logits, torch.zeros(6), torch.tensor([2, 3, 4]), calibration=0.5)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    alpha = 3 / 4
    beta = alpha * (0.5 * (1 - 1 / alpha) + 1 / alpha)
    first = -(beta * math.log(sigmoid(0.3)) + sum(math.log(1 - sigmoid(x)) for x in (-0.2, 0.7, 0.1))) / 4
    second = -(beta * math.log(sigmoid(0.7)) + sum(math.log(1 - sigmoid(x)) for x in (-0.2, 0.1))) / 3
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


@pytest.mark.parametrize("calibration", [0, 0.3, 1])
def test_beta(calibration: float) -> None:
    assert gbce_beta(100, 102, calibration) == pytest.approx(1)  # everything sampled: plain
    assert gbce_beta(500, 102, calibration) == pytest.approx(1)
    assert gbce_beta(10, 1002, 0) == pytest.approx(1)  # plain
    assert gbce_beta(10, 1002, 1) == pytest.approx(0.01)  # the sampling rate
    assert gbce_beta(10, 1002, calibration) == pytest.approx(1 - calibration * 0.99)


def test_gbce_with_beta_1_is_binary_cross_entropy() -> None:
    states, targets, weight, bias = layer(6, 30)
    negatives = torch.tensor([i for i in range(1, 30) if i not in targets.tolist()][:8])
    logits = F.linear(states, weight, bias)
    logits = torch.cat((logits.gather(1, targets[:, None]), logits[:, negatives]), dim=1)
    expected = F.binary_cross_entropy_with_logits(logits, F.one_hot(torch.zeros(6, dtype=torch.long), 9).double())
    torch.testing.assert_close(gbce(states, targets, weight, bias, negatives, 0.0), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "n_items", "k"), [(0, 7, 3), (1, 2, 1), (5, 2, 9), (3, 3, 1), (1, 7, 1)])
def test_odd_sizes_have_finite_losses_and_gradients(name: str, n: int, n_items: int, k: int) -> None:
    states, targets, weight, bias = layer(n, n_items)
    for _ in range(5):
        loss = item_loss(name, k, 0.75)(states, targets, weight, bias)
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert float(loss) >= 0
        assert n > 0 or float(loss) == 0
        assert all(torch.isfinite(grad).all() for grad in gradients(loss, states, weight, bias))


def test_names_in_any_case_and_fresh_negatives_at_every_call() -> None:
    arguments = layer(6, 50)
    assert item_loss("Full_Softmax", 1, 0) is full_softmax
    for name in ("gBCE", "sampled_softmax"):
        loss = item_loss(name, 5, 0.75)
        torch.manual_seed(0)
        first, second = float(loss(*arguments)), float(loss(*arguments))
        torch.manual_seed(0)
        assert float(loss(*arguments)) == first != second


# ---- memory


@pytest.mark.parametrize(("name", "half"), [*((name, False) for name in NAMES), ("full_softmax", True)])
def test_memory_does_not_grow_with_rows_times_items(name: str, half: bool) -> None:
    """200,000 items and 4,000 rows: logits alone would take 3,052 MiB, and as much again for their gradient."""
    before = f"""
from recbole_session.model.losses import item_loss
loss = item_loss({name!r}, 256, 0.75)
states, weight, bias = torch.randn(4000, 4), torch.randn(200_000, 4), torch.zeros(200_000)
targets = torch.randint(1, 200_000, (4000,))
for tensor in (states, weight, bias):
    tensor.requires_grad_()
torch.set_autocast_enabled("cpu", {half})
loss(states[:2], targets[:2], weight, bias).backward()
"""
    rows = 400 if name == "full_softmax" else 4000  # 305 MiB twice, where it takes longer
    measured = f"loss(states[:{rows}], targets[:{rows}], weight, bias).backward()"
    assert peak_growth(before, measured) < 150


# ---- training


@pytest.mark.parametrize("name", NAMES)
def test_each_loss_teaches_what_comes_next(name: str, write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    """Every user walks round a circle of 30 items; chance ranks the next one 15th."""
    write_dataset([(f"u{user}", f"i{(user + step) % 30}", step) for user in range(60) for step in range(9)])
    config: SessionConfig = build_config(
        item_loss=name, num_train_negatives=10, hidden_size=16, inner_size=32, num_negatives=5, session_features=[],
        initializer_range=0.1, mask_ratio=0.3, ft_ratio=0.3, train_batch_size=20,
    )  # fmt: skip
    dataset = SessionDataset(config)
    train, _, test = build_loaders(config, dataset)
    torch.manual_seed(1)
    model = SessionBERT4Rec(config, dataset)
    evaluator = RankingEvaluator(config, dataset)

    def mean_rank() -> float:
        return float(evaluator.evaluate(model, test, torch.device("cpu"), ["all"]).ranks["all"].double().mean())

    assert mean_rank() > 10
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    history = []
    for _ in range(60):
        model.train()
        total = 0.0
        for batch in train:
            loss = model.calculate_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        history.append(total)
    assert sum(history[-5:]) < 0.7 * sum(history[:5])
    assert mean_rank() < 7


@pytest.mark.parametrize("name", NAMES)
def test_the_model_trains_with_the_loss_of_its_key(name: str, build_config: BuildConfig) -> None:
    """Weights of the output layer that a sampled loss does not touch have no gradient."""
    torch.manual_seed(0)
    n_items = 200
    model = SessionBERT4Rec(
        build_config(item_loss=name, num_train_negatives=5), SimpleNamespace(num=lambda field: n_items)
    )
    item_seq = torch.randint(1, n_items, (6, 8))
    loss = model.calculate_loss({"item_seq": item_seq, "session_seq": item_seq * 0, "time_seq": item_seq * 0})
    loss.backward()
    touched = int(model.output.weight.grad.any(1).sum())
    assert touched == n_items if name == "full_softmax" else 5 < touched < 30
