"""The models that the benchmarks compare with are the same models, and their FLOP are counted right."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from machine import Shape, evaluation_flop, forward_flop, training_flop
from paper_run import train_to_the_end, useful_flop
from plain_bert4rec import IGNORED, PlainBERT4Rec, evaluate_pass
from quality_at_time import Curve, first_time, time_points
from setting import ClockedLoader, build_ours, generate_dataset
from torch import Tensor

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.model.session_bert4rec import SessionBERT4Rec, mask_items
from tests.conftest import TINY_MODEL, BuildConfig, WriteDataset, random_rows

N_ITEMS = 40
FEATURES = [[], ["ST"], ["SSE"], ["TSA"], ["ST", "SSE", "TSA"]]


def ours_and_other(build_config: BuildConfig, **keys: object) -> tuple[SessionBERT4Rec, PlainBERT4Rec, SessionConfig]:
    torch.manual_seed(0)
    config = build_config(**{"initializer_range": 0.3, "MAX_ITEM_LIST_LENGTH": 12, **keys})
    ours = SessionBERT4Rec(config, SimpleNamespace(num=lambda field: N_ITEMS))
    for name, parameter in ours.named_parameters():
        if "norm" in name or name.endswith("bias") or "phases" in name:
            torch.nn.init.normal_(parameter, mean=float("norm.weight" in name), std=0.3)
    reference = PlainBERT4Rec(config, N_ITEMS)
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference, config


def batch_of(lengths: list[int], length: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (len(lengths), length)
    is_token = torch.arange(length) >= length - torch.tensor(lengths)[:, None]
    sessions = torch.randint(0, 2, shape, generator=generator).cumsum(1)
    times = 1_000_000_000 + torch.randint(0, 90_000, shape, generator=generator).cumsum(1)
    items = torch.randint(1, N_ITEMS, shape, generator=generator)
    return {"item_seq": items * is_token, "session_seq": sessions * is_token, "time_seq": times * is_token}


@pytest.mark.parametrize("features", FEATURES, ids="+".join)
def test_same_loss_and_gradients_for_the_same_masked_batch(build_config: BuildConfig, features: list[str]) -> None:
    ours, reference, _ = ours_and_other(build_config, session_features=features)
    batch = batch_of([1, 12, 5, 2, 7, *range(1, 13), *range(12, 0, -1)])
    masked_seq, chosen = mask_items(batch["item_seq"], N_ITEMS, mask_ratio=0.4)
    loss = ours.calculate_loss({**batch, "masked_seq": masked_seq, "chosen": chosen})
    targets = batch["item_seq"].masked_fill(~chosen, IGNORED)
    other_loss = reference.loss(masked_seq, targets, batch["session_seq"], batch["time_seq"])
    assert other_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    other_loss.backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    for name, parameter in reference.named_parameters():
        if gradients[name] is None or parameter.grad is None:  # segments without SSE
            assert gradients[name] is None and parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("features", FEATURES, ids="+".join)
def test_same_scores(build_config: BuildConfig, features: list[str]) -> None:
    ours, reference, _ = ours_and_other(build_config, session_features=features)
    batch = batch_of([1, 12, 5, 2])
    batch["item_seq"][:, -1] = N_ITEMS
    with torch.no_grad():
        expected, scores = ours.eval().full_sort_predict(batch), reference.eval().full_sort_predict(batch)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_plain_masking_has_the_papers_shares(build_config: BuildConfig) -> None:
    _, reference, _ = ours_and_other(build_config, mask_ratio=0.3)
    torch.manual_seed(0)
    item_seq = torch.randint(1, N_ITEMS + 2, (3000, 12))  # session tokens, and masks that are no items either
    item_seq[:, :2] = 0
    masked_seq, targets = reference.mask_items(item_seq)
    chosen = targets != IGNORED
    is_item = (item_seq > 0) & (item_seq < N_ITEMS)
    assert not chosen[~is_item].any()
    assert torch.equal(targets[chosen], item_seq[chosen])
    assert torch.equal(masked_seq[~chosen], item_seq[~chosen])
    n_chosen = int(chosen.sum())
    assert n_chosen / int(is_item.sum()) == pytest.approx(0.3, abs=0.02)
    assert int((masked_seq[chosen] == N_ITEMS).sum()) / n_chosen == pytest.approx(0.8, abs=0.02)
    kept = (masked_seq == item_seq)[chosen].sum() / n_chosen
    assert float(kept) == pytest.approx(0.1 + 0.1 / (N_ITEMS - 1), abs=0.02)


def test_plain_passes_give_the_ranks_of_the_evaluator(build_config: BuildConfig, write_dataset: WriteDataset) -> None:
    write_dataset(random_rows(n_users=15, n_items=25))
    config = build_config(num_negatives=30, eval_batch_size=4, initializer_range=0.5)
    data = SessionDataset(config)
    train, _, test = build_loaders(config, data)
    evaluator = RankingEvaluator(config, data)
    torch.manual_seed(0)
    ours = SessionBERT4Rec(config, train._dataset)
    plain = PlainBERT4Rec(config, ours.n_items)
    plain.load_state_dict(ours.state_dict())
    expected = evaluator.evaluate(ours, test, torch.device("cpu"), ["random", "popular", "all"]).ranks
    for name, negatives in evaluator.negatives.items():
        ranks = evaluate_pass(plain, test, negatives, data.uid_field, data.iid_field)
        assert ranks.tolist() == expected[name].tolist()


# ---- counts


def test_flop_by_hand() -> None:
    """d 4, f 8, 2 layers, 2 heads, d_T 3, 10 items; sequences of 2 and 3 tokens, 2 outputs."""
    shape = Shape(hidden_size=4, inner_size=8, n_layers=2, n_heads=2, temporal_dim=3, n_items=10)
    linear = 2 * (4 * 16 + 2 * 32 + 9) * 5  # 4 d x d, 2 d x f, d_T x d_T weights for each of 5 tokens
    logits, context = 2 * (2 + 3) * 2 * (4 + 9), 2 * 2 * 2 * (4 + 9)  # d_head 2, d_head + d_T 5, 2 heads
    forward = 2 * (linear + logits + context) + 2 * 2 * 4 * 10
    assert forward_flop(shape, [2, 3], n_outputs=2) == forward == 3628
    assert training_flop(shape, [2, 3], n_outputs=2) == 3 * 3628

    keys_and_values = 2 * (2 * 16 + 9) * 5
    last_tokens = 2 * 2 * (2 * 16 + 2 * 32)
    last_attention = 2 * (2 + 3) * 2 * 5 + 2 * 2 * 2 * 5
    evaluation = linear + logits + context + keys_and_values + last_tokens + last_attention + 2 * 2 * 40
    assert evaluation_flop(shape, [2, 3]) == evaluation == 2828


def test_flop_of_causal_attention_and_of_a_head() -> None:
    plain = {"hidden_size": 4, "inner_size": 8, "n_layers": 1, "n_heads": 2, "temporal_dim": 0, "n_items": 10}
    base = forward_flop(Shape(**plain), [3], n_outputs=1)
    assert base - forward_flop(Shape(**plain, causal=True), [3], n_outputs=1) == 2 * 2 * 4 * 3  # 6 pairs of 9
    assert forward_flop(Shape(**plain, head_parameters=16), [3], n_outputs=1) - base == 2 * 16


def test_flop_of_a_whole_run_are_those_of_its_sequences(write_dataset: WriteDataset, tmp_path: Path) -> None:
    """Users of 6, 5 and 4 rows, all but two to train on; validation adds the mask to those."""
    rows = [(f"u{user}", f"i{user}-{place}", place) for user in range(3) for place in range(6 - user)]
    write_dataset(rows)
    keys = {**TINY_MODEL, "session_features": [], "mask_ratio": 0.5, "num_negatives": 2, "use_gpu": False, "epochs": 2}
    run = build_ours("SessionBERT4Rec", "toy", tmp_path / "data", tmp_path, **keys)
    seconds, _, metrics = train_to_the_end(run)
    assert seconds >= run.trainer.train_seconds > 0
    assert set(metrics) == {"random", "popular", "all"}
    shape = Shape.of(run.config, run.model.n_items)
    training, validation = useful_flop(run)
    assert training == pytest.approx(training_flop(shape, [4, 3, 2], 0.5 * 9))
    assert validation == pytest.approx(evaluation_flop(shape, [5, 4, 3]))


def test_flop_agree_with_torchs_own_count(build_config: BuildConfig) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    _, reference, config = ours_and_other(build_config)
    batch = batch_of([12, 12, 12])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.eval()(batch["item_seq"], batch["session_seq"], batch["time_seq"])
    assert counter.get_total_flops() == forward_flop(Shape.of(config, N_ITEMS), [12] * 3, n_outputs=36)


# ---- clock and data


def test_the_clock_counts_steps_and_stands_still_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("setting.time", SimpleNamespace(perf_counter=lambda: now[0]))
    loader = SimpleNamespace(batches=["a", "b"], generator="its own")

    def pass_time(batch: str) -> None:
        now[0] += 100

    clock = ClockedLoader(loader, torch.device("cpu"), pass_time, loader.batches)
    for _ in range(2):
        for _ in clock:
            now[0] += 3
        now[0] += 1000  # between epochs
    assert (clock.seconds, clock.steps, clock.generator) == (12, 4, "its own")


def test_generated_data_hold_every_item_and_several_sessions(tmp_path: Path) -> None:
    folder = generate_dataset(tmp_path, "made", n_users=20, n_items=150, rows_per_user=30)
    rows = np.loadtxt(folder / "made" / "made.inter", skiprows=1, dtype=np.int64)
    assert rows.shape == (600, 3)
    assert len(np.unique(rows[:, 1])) == 150
    gaps = np.diff(rows[:, 2].reshape(20, 30), axis=1)
    assert (gaps > 0).all()
    assert 0.02 < (gaps > 86_400).mean() < 0.2


def test_time_to_the_target_is_the_first_that_reaches_it() -> None:
    curve = Curve("model", seconds=[1.0, 2.0, 3.0, 4.0], steps=[1, 2, 3, 4], values=[0.1, 0.3, 0.2, 0.4])
    assert (curve.best, first_time(curve, 0.3), first_time(curve, 0.31)) == (0.4, 2.0, 4.0)
    assert first_time(curve, 0.41) is None


def test_time_points_grow_to_the_budget() -> None:
    points = time_points(100.0)
    assert points[0] == 0.5
    assert points[-1] == 100.0
    gaps = np.diff(points)
    assert (gaps[:-2] <= gaps[1:-1] + 1e-9).all()
