"""SessionSASRec against a slow version of itself, and what it may not see."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from recbole_session.data.batches import UNKNOWN_TIME, mask_token, session_token
from recbole_session.model.session_sasrec import SessionSASRec, causal_bias
from recbole_session.model.session_transformer import columns_of
from tests.conftest import BuildConfig
from tests.model.test_session_bert4rec import ALL_FEATURES

N_ITEMS = 20  # padding included
SESSION, MASK = session_token(N_ITEMS), mask_token(N_ITEMS)
DATASET = SimpleNamespace(num=lambda field: N_ITEMS)
LENGTH = 8  # that the encoder reads; a batch has one column more
FEATURES = pytest.mark.parametrize("features", ALL_FEATURES)


def build_model(build_config: BuildConfig, **keys: object) -> SessionSASRec:
    torch.manual_seed(0)
    keys = {"initializer_range": 0.3, "MAX_ITEM_LIST_LENGTH": LENGTH, "hide_context_ratio": 0.0, **keys}
    return SessionSASRec(build_config("SessionSASRec", **keys), DATASET).eval().double()  # so that equal is equal


def random_batch(lengths: list[int], has_tokens: bool = False, length: int = LENGTH + 1) -> dict[str, torch.Tensor]:
    """Rows of so many tokens; a session token before every other session where ``has_tokens``."""
    generator = torch.Generator().manual_seed(len(lengths))
    shape = (len(lengths), length)
    is_token = torch.arange(length) >= length - torch.tensor(lengths)[:, None]
    opens = torch.rand(shape, generator=generator) < 0.4
    times = 1_000_000_000 + torch.randint(0, 90_000, shape, generator=generator).cumsum(1)
    items = torch.randint(1, N_ITEMS, shape, generator=generator)
    if has_tokens:
        items[:, :-1][opens[:, :-1]] = SESSION
    sessions = opens.cumsum(1)
    return {"item_seq": items * is_token, "session_seq": sessions * is_token, "time_seq": times * is_token}


def at_inference(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    item_seq = batch["item_seq"].clone()
    item_seq[:, -1] = MASK
    return {**batch, "item_seq": item_seq}


def slow_logits(model: SessionSASRec, batch: dict[str, torch.Tensor]) -> list[list[torch.Tensor]]:
    """Logits of every target, by row: each from the batch cut right before it, alone, without padding."""
    found = []
    for item_seq, session_seq, time_seq in zip(*columns_of(batch), strict=True):
        n_tokens = int((item_seq != 0).sum())
        of_row = []
        for place in range(len(item_seq) - n_tokens + 1, len(item_seq)):
            if item_seq[place] >= N_ITEMS:
                continue
            # Position embeddings and segments count from the end of the row: what follows stays, but is masked out.
            columns = tuple(column[None, len(item_seq) - n_tokens :].clone() for column in (item_seq, session_seq))
            cut_at = place - (len(item_seq) - n_tokens)
            columns[0][:, cut_at:] = MASK  # no later item
            times = time_seq[None, len(item_seq) - n_tokens :].clone()
            times[:, cut_at + 1 :] = 77  # no later time
            states = model.encode((*columns, times))
            of_row.append(F.linear(states[0, cut_at - 1], *model.output_factors()))
        found.append(of_row)
    return found


@pytest.mark.parametrize("tied", [False, True])
@FEATURES
@pytest.mark.parametrize("lengths", [[1], [2], [9, 1], [9, 2, 3, 5], [*range(1, 10)] * 3])
def test_loss_equals_the_slow_one(
    features: list[str], lengths: list[int], tied: bool, build_config: BuildConfig
) -> None:
    model = build_model(build_config, session_features=features, tie_embeddings=tied)
    batch = random_batch(lengths, "ST" in features)
    fast = model.calculate_loss(batch)
    targets = [
        item
        for item_seq in batch["item_seq"].tolist()
        for item in [item for item in item_seq if item][1:]
        if item < N_ITEMS
    ]
    logits = [logit for of_row in slow_logits(model, batch) for logit in of_row]
    assert model.loss_terms(batch) == len(targets) == len(logits)
    if not targets:
        assert float(fast) == 0
        return
    slow = F.cross_entropy(torch.stack(logits), torch.tensor(targets))
    torch.testing.assert_close(fast, slow)
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(fast, parameters, allow_unused=True),
        torch.autograd.grad(slow, parameters, allow_unused=True),
        strict=True,
    ):
        none = torch.zeros(())
        torch.testing.assert_close(
            none if ours is None else ours, none if theirs is None else theirs, rtol=1e-4, atol=1e-6
        )


@FEATURES
@pytest.mark.parametrize("column", ["item_seq", "session_seq", "time_seq"])
def test_nothing_later_reaches_a_position(features: list[str], column: str, build_config: BuildConfig) -> None:
    """Changes to what follows the predicted item, and to that item itself, change no state before it."""
    model = build_model(build_config, session_features=features)
    batch = random_batch([9, 6], "ST" in features)
    before = model.encode(columns_of(batch))
    for place in range(1, LENGTH + 1):
        changed = {name: values.clone() for name, values in batch.items()}
        later = slice(place if column == "item_seq" else place + 1, None)
        if column == "session_seq":  # numbers count from the end of the row: later sessions may not change there
            changed[column][:, later] = changed[column][:, -1:]
            if not torch.equal(changed[column][:, later], batch[column][:, later]):
                continue
        elif column == "item_seq":
            is_item = (changed[column][:, later] > 0) & (changed[column][:, later] < N_ITEMS)
            changed[column][:, later] = torch.where(is_item, 1 + changed[column][:, later] % (N_ITEMS - 1), SESSION)
            changed[column][batch["item_seq"] == 0] = 0
        else:
            changed[column][:, later] += 123_456
        after = model.encode(columns_of(changed))
        torch.testing.assert_close(after[:, :place], before[:, :place])


@FEATURES
def test_training_and_inference_agree_at_the_last_position(features: list[str], build_config: BuildConfig) -> None:
    model = build_model(build_config, session_features=features)
    batch = random_batch([9, 2, 5], "ST" in features)
    trained = F.linear(model.encode(columns_of(batch))[:, -1], *model.output_factors())
    scores = model.full_sort_predict(at_inference(batch))
    torch.testing.assert_close(scores, trained)
    items = torch.tensor([4, 1, 19])
    torch.testing.assert_close(model.predict({**at_inference(batch), "item_id": items}), scores[torch.arange(3), items])


@FEATURES
def test_padding_changes_no_score(features: list[str], build_config: BuildConfig) -> None:
    model = build_model(build_config, session_features=features)
    batch = at_inference(random_batch([9, 3, 2]))
    scores = model.full_sort_predict(batch)
    for row, n_tokens in enumerate([9, 3, 2]):
        alone = {name: values[row : row + 1, -n_tokens:] for name, values in batch.items()}
        torch.testing.assert_close(model.full_sort_predict(alone)[0], scores[row])
    rubbish = {name: values.clone() for name, values in batch.items()}
    for name in ("session_seq", "time_seq"):
        rubbish[name][batch["item_seq"] == 0] = 1_234_567
    torch.testing.assert_close(model.full_sort_predict(rubbish), scores)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_an_input_worked_out_by_hand(scale: float, build_config: BuildConfig) -> None:
    """Items 5 and 7, 10 seconds apart in one session; the next one opens another, an hour later."""
    model = build_model(build_config, session_features=["SSE", "GAP"], max_session_segments=3, feature_scale=scale)
    items, places = model.item_embedding.weight, model.position_embedding.weight
    segments, gaps = model.segment_embedding.weight, model.gap_embedding
    assert gaps is not None
    columns = tuple(torch.tensor([row]) for row in ([5, 7, MASK], [1, 1, 2], [1000, 1010, 4610]))
    states, _, _ = model.layer_input(columns, model.item_embedding(columns[0][:, :-1]))
    first = items[5] + scale * (places[-2] + 2 * segments[2] + gaps.weight[2])  # 1 + floor(log(11) / 2)
    second = items[7] + scale * (places[-1] + segments[2] + segments[3] + gaps.weight[5])  # 1 + floor(log(3601) / 2)
    torch.testing.assert_close(states[0], torch.stack((first, second)))


def test_session_tokens_and_padding_are_never_targets(build_config: BuildConfig) -> None:
    model = build_model(build_config)
    item_seq = torch.tensor([[0, 0, 3, SESSION, 4, 5], [SESSION, 1, SESSION, 2, 3, SESSION]])
    assert model.is_target(item_seq).tolist() == [
        [False, False, False, True, True],
        [True, False, True, True, False],
    ]


@pytest.mark.parametrize(
    ("feature", "column", "change"),
    [("SSE", "session_seq", 1), ("TSA", "time_seq", 90_000), ("GAP", "time_seq", 9_000_000)],
)
def test_the_context_of_the_predicted_item_counts_where_its_feature_is_on(
    feature: str, column: str, change: int, build_config: BuildConfig
) -> None:
    batch = at_inference(random_batch([9, 5]))
    other = {name: values.clone() for name, values in batch.items()}
    other[column][:, -1] += change
    for features, notices in (([feature], True), ([], False), (["ST"], False)):
        model = build_model(build_config, session_features=features)
        assert torch.allclose(model.full_sort_predict(batch), model.full_sort_predict(other)) != notices


@FEATURES
def test_an_unknown_time_is_a_hidden_context(features: list[str], build_config: BuildConfig) -> None:
    """What training hides is what inference does not know: the time is unknown and the session is the latest one."""
    model = build_model(build_config, session_features=features, hide_context_ratio=0.5)
    batch = random_batch([9, 4])
    is_hidden = torch.zeros(2, LENGTH, dtype=torch.bool)
    is_hidden[:, -1] = True
    batch["session_seq"][:, -1] = batch["session_seq"][:, -2]  # segments count from here
    hidden = model.encode(columns_of(batch), is_hidden=is_hidden)[:, -1]
    unknown = at_inference(batch)
    unknown["time_seq"] = batch["time_seq"].clone()
    unknown["time_seq"][:, -1] = UNKNOWN_TIME
    torch.testing.assert_close(model.score_factors(unknown)[0], hidden)


def test_hiding_the_context_is_drawn_once_and_kept(build_config: BuildConfig) -> None:
    model = build_model(build_config, session_features=["GAP", "SSE", "TSA"], hide_context_ratio=0.5)
    batch = random_batch([9, 4, 7])
    batch.update(model.draw_task(batch))
    assert 0 < int(batch["is_hidden"].sum()) < batch["is_hidden"].numel()
    first = model.calculate_loss(batch)
    assert float(model.calculate_loss(batch)) == float(first)
    batch["is_hidden"] = torch.zeros_like(batch["is_hidden"])
    assert float(model.calculate_loss(batch)) != float(first)


def test_causal_bias() -> None:
    inf = float("-inf")
    assert causal_bias(torch.tensor([[0, 0, 3, 4]]), torch.float32).tolist() == [
        [[0, inf, inf, inf], [inf, 0, inf, inf], [inf, inf, 0, inf], [inf, inf, 0, 0]]
    ]


def test_attention_covers_the_columns_of_a_batch(build_config: BuildConfig) -> None:
    model = build_model(build_config)
    batch = at_inference(random_batch([9, 4]))
    shares = model.attention(batch)
    assert shares.shape == batch["item_seq"].shape
    torch.testing.assert_close(shares.sum(1), torch.ones(2, dtype=torch.float64))
    assert not shares[batch["item_seq"] == 0].any()
    assert not shares[:, -1].any()
