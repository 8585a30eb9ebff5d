from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from recbole_session.data.batches import mask_token, session_token
from recbole_session.model.session_bert4rec import SessionBERT4Rec, mask_items
from recbole_session.model.session_transformer import columns_of
from tests.conftest import BuildConfig

N_ITEMS = 20  # padding included
SESSION, MASK = session_token(N_ITEMS), mask_token(N_ITEMS)
DATASET = SimpleNamespace(num=lambda field: N_ITEMS)
ALL_FEATURES = [[], ["ST"], ["SSE"], ["TSA"], ["GAP"], ["ST", "SSE", "TSA", "GAP"]]


def build_model(build_config: BuildConfig, **keys: object) -> SessionBERT4Rec:
    torch.manual_seed(0)
    model = SessionBERT4Rec(build_config(**{"initializer_range": 0.3, **keys}), DATASET)
    return model.eval()


def random_batch(lengths: list[int], length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), length)
    is_token = torch.arange(length) >= length - torch.tensor(lengths)[:, None]
    sessions = torch.randint(0, 2, shape, generator=generator).cumsum(1)
    times = 1_000_000_000 + torch.randint(0, 90_000, shape, generator=generator).cumsum(1)
    items = torch.randint(1, N_ITEMS, shape, generator=generator)
    return {"item_seq": items * is_token, "session_seq": sessions * is_token, "time_seq": times * is_token}


# ---- masking


def masking_input() -> torch.Tensor:
    """Padding, session tokens and items in every row."""
    generator = torch.Generator().manual_seed(1)
    item_seq = torch.randint(1, N_ITEMS, (400, 50), generator=generator)
    item_seq[:, :10] = 0
    item_seq[:, 10::7] = SESSION
    return item_seq


@pytest.mark.parametrize("ft_ratio", [0.0, 0.5])
def test_padding_and_session_tokens_are_never_chosen(ft_ratio: float) -> None:
    torch.manual_seed(0)
    item_seq = masking_input()
    item_seq[::2, -1] = SESSION
    masked_seq, chosen = mask_items(item_seq, N_ITEMS, mask_ratio=0.9, ft_ratio=ft_ratio)
    untouchable = (item_seq == 0) | (item_seq == SESSION)
    assert not chosen[untouchable].any()
    assert torch.equal(masked_seq[~chosen], item_seq[~chosen])


def test_items_are_chosen_with_the_mask_ratio_and_meet_the_three_fates() -> None:
    torch.manual_seed(0)
    item_seq = masking_input()
    is_item = (item_seq > 0) & (item_seq < N_ITEMS)
    masked_seq, chosen = mask_items(item_seq, N_ITEMS, mask_ratio=0.2)
    n_chosen = int(chosen.sum())
    assert n_chosen / int(is_item.sum()) == pytest.approx(0.2, abs=0.02)
    masked = (masked_seq == MASK) & chosen
    replaced = (masked_seq != item_seq) & ~masked
    assert int(masked.sum()) / n_chosen == pytest.approx(0.8, abs=0.03)
    # One in N_ITEMS - 1 random items is the item itself.
    assert int(replaced.sum()) / n_chosen == pytest.approx(0.1 * (1 - 1 / (N_ITEMS - 1)), abs=0.02)
    assert set(masked_seq[replaced].tolist()) == set(range(1, N_ITEMS))


def test_mask_ratio_1_chooses_every_item() -> None:
    item_seq = masking_input()
    _, chosen = mask_items(item_seq, N_ITEMS, mask_ratio=1.0)
    assert torch.equal(chosen, (item_seq > 0) & (item_seq < N_ITEMS))


def test_ft_ratio_1_masks_the_last_item_alone() -> None:
    item_seq = masking_input()
    item_seq[:, -1] = 5
    masked_seq, chosen = mask_items(item_seq, N_ITEMS, mask_ratio=0.5, ft_ratio=1.0)
    assert chosen[:, -1].all()
    assert not chosen[:, :-1].any()
    assert (masked_seq[:, -1] == MASK).all()


# ---- loss and scores


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("features", ALL_FEATURES)
@pytest.mark.parametrize("lengths", [[1], [8], [8, 1, 3, 5], list(range(1, 9)) * 5])
def test_loss_equals_the_plain_one(
    features: list[str], lengths: list[int], tied: bool, build_config: BuildConfig
) -> None:
    """All positions of the padded batch through the encoder and the output layer, then the chosen ones picked."""
    model = build_model(build_config, session_features=features, mask_ratio=0.5, tie_embeddings=tied)
    batch = random_batch(lengths, 8)
    torch.manual_seed(3)
    fast = model.calculate_loss(batch)
    torch.manual_seed(3)
    masked_seq, chosen = mask_items(batch["item_seq"], N_ITEMS, 0.5)
    logits = F.linear(model.encode((masked_seq, batch["session_seq"], batch["time_seq"])), *model.output_factors())
    losses = F.cross_entropy(logits.transpose(1, 2), batch["item_seq"].clamp(max=N_ITEMS - 1), reduction="none")
    slow = (losses * chosen).nan_to_num().sum() / max(int(chosen.sum()), 1)
    torch.testing.assert_close(fast, slow)
    if not chosen.any():
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for ours, theirs in zip(
        torch.autograd.grad(fast, parameters, allow_unused=True),
        torch.autograd.grad(slow, parameters, allow_unused=True),
        strict=True,
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_batch_without_a_chosen_item_has_loss_0_and_no_gradient(build_config: BuildConfig) -> None:
    model = build_model(build_config)
    batch = random_batch([3, 2], 8)
    batch["item_seq"][batch["item_seq"] > 0] = SESSION
    loss = model.calculate_loss(batch)
    loss.backward()
    assert float(loss) == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("features", ALL_FEATURES)
def test_scores_come_from_the_last_position_alone(features: list[str], build_config: BuildConfig) -> None:
    model = build_model(build_config, session_features=features)
    batch = random_batch([8, 1, 5], 8)
    states = model.encode(columns_of(batch))
    scores = model.full_sort_predict(batch)
    torch.testing.assert_close(scores, model.output(states)[:, -1])
    items = torch.tensor([4, 1, 19])
    torch.testing.assert_close(model.predict({**batch, "item_id": items}), scores[torch.arange(3), items])


@pytest.mark.parametrize("features", ALL_FEATURES)
def test_padding_changes_no_score(features: list[str], build_config: BuildConfig) -> None:
    """A row alone and unpadded, the same row among longer ones, and with rubbish where the padding is."""
    model = build_model(build_config, session_features=features)
    batch = random_batch([8, 3, 1], 8)
    scores = model.full_sort_predict(batch)
    for row, n_tokens in enumerate([8, 3, 1]):
        alone = {name: values[row : row + 1, -n_tokens:] for name, values in batch.items()}
        torch.testing.assert_close(model.full_sort_predict(alone)[0], scores[row])
    is_padding = batch["item_seq"] == 0
    rubbish = {name: values.clone() for name, values in batch.items()}
    for name in ("session_seq", "time_seq"):
        rubbish[name][is_padding] = 1_234_567
    torch.testing.assert_close(model.full_sort_predict(rubbish), scores)


@pytest.mark.parametrize(("feature", "field"), [("SSE", "session_seq"), ("TSA", "time_seq"), ("GAP", "time_seq")])
def test_only_the_feature_switched_on_reads_its_field(feature: str, field: str, build_config: BuildConfig) -> None:
    batch = random_batch([8, 5], 8)
    changed = dict(batch)
    changed[field] = torch.where(
        batch["item_seq"] > 0, batch[field] + torch.tensor([0, 0, 0, 0, 0, 0, 3, 9_000_000]), 0
    )
    for features, notices in (([feature], True), ([], False), (["ST"], False)):
        model = build_model(build_config, session_features=features)
        scores, other = model.full_sort_predict(batch), model.full_sort_predict(changed)
        assert torch.allclose(scores, other) != notices


def test_session_tokens_take_part_in_attention(build_config: BuildConfig) -> None:
    model = build_model(build_config, session_features=["ST"])
    batch = random_batch([6], 8)
    batch["item_seq"][0, 4] = SESSION
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        model.item_embedding.weight[SESSION] += torch.linspace(-1, 1, 8)  # a constant would fall to the layer norm
        assert not torch.allclose(before, model.full_sort_predict(batch))


def test_scores_cover_the_items_and_nothing_else(build_config: BuildConfig) -> None:
    assert build_model(build_config).full_sort_predict(random_batch([4], 8)).shape == (1, N_ITEMS)


def test_padding_rows_start_at_zero(build_config: BuildConfig) -> None:
    model = build_model(build_config)
    assert not model.item_embedding.weight[0].any()
    assert not model.segment_embedding.weight[0].any()
