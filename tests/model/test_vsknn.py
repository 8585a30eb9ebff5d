"""V-SKNN and VSTAN against the formulas of their papers, with Python loops over sessions and items."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_session.config.session_config import SessionConfig
from recbole_session.data.batches import mask_token, token_batch
from recbole_session.data.sequences import build_user_sequences
from recbole_session.model.vsknn import VSKNN, VSTAN
from recbole_session.run.training import run_session
from tests.conftest import WriteDataset, random_rows

N_ITEMS = 9  # padding included
DATASET = SimpleNamespace(num=lambda field: N_ITEMS)
DAY = 86_400

Session = list[int]
KEYS = {"n_neighbors": 3, "sample_size": 5, "extend_length": 3, "reminder_weight": 0.25}


def build(kind: type, keys: dict[str, object]) -> VSKNN:
    return kind(SessionConfig(kind, "toy", config_dict={"use_gpu": False, **keys}), DATASET)


def batch_of(users: list[list[Session]], masked: bool) -> dict[str, torch.Tensor]:
    """Each user's sessions, three days apart, items an hour apart; with ``masked`` the last is the target."""
    rows = [
        (user, item, number, (10 * user + 3 * number) * DAY + 3_600 * place)
        for user, sessions in enumerate(users, start=1)
        for number, session in enumerate(sessions)
        for place, item in enumerate(session)
    ]
    owners, items, sessions, times = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    sequences = build_user_sequences(owners, items, times, len(users) + 1, sessions)
    ids = torch.arange(1, len(users) + 1)
    return token_batch(sequences, ids, sequences.offsets[2:], 40, mask_token(N_ITEMS) if masked else None)


def slow_scores(
    kind: type, training: list[list[Session]], user: list[Session], number: int, keys: dict[str, object]
) -> list[float]:
    """Score every item for the last item of user ``number`` (from 1), by the docstrings of the classes."""
    known = []  # (end, items) of every training session
    for owner, sessions in enumerate(training, start=1):
        for place, session in enumerate(sessions):
            known.append(((10 * owner + 3 * place) * DAY + 3_600 * (len(session) - 1), session))
    order = sorted(range(len(known)), key=lambda index: known[index][0])
    history = [item for session in user for item in session][:-1]
    current = user[-1][:-1]
    query = current if len(current) >= keys["extend_length"] else history[-keys["extend_length"] :]
    now = (10 * number + 3 * (len(user) - 1)) * DAY + 3_600 * (len(user[-1]) - 1)
    scores = [0.0] * N_ITEMS
    for place, item in enumerate(history, start=1):
        scores[item] = keys["reminder_weight"] * place / len(history)
    where = {item: place for place, item in enumerate(query, start=1)}
    candidates = [index for index in order if set(known[index][1]) & set(query)][-keys["sample_size"] :]
    similarities = []
    for recency, index in enumerate(candidates):
        end, session = known[index]
        shared = set(session) & set(query)
        if kind is VSKNN:
            similarity = sum(where[item] / len(query) for item in shared)
        else:
            similarity = sum(math.exp((where[item] - len(query)) / keys["query_decay"]) for item in shared)
            similarity *= math.exp(-max(now - end, 0) / (keys["session_decay"] * DAY)) / math.sqrt(len(set(session)))
        similarities.append((similarity, recency, session))
    for similarity, _, session in sorted(similarities, reverse=True)[: keys["n_neighbors"]]:
        latest = max((item for item in session if item in where), key=where.__getitem__)
        last_place = {item: place for place, item in enumerate(session, start=1)}
        for item, place in last_place.items():
            if kind is VSKNN:
                scores[item] += similarity / (1 + len(query) - where[latest])
            else:
                scores[item] += similarity * math.exp(-abs(place - last_place[latest]) / keys["item_decay"])
    return scores


SESSIONS = st.lists(st.lists(st.integers(1, N_ITEMS - 1), min_size=1, max_size=5), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", [VSKNN, VSTAN])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    training=st.lists(SESSIONS, min_size=1, max_size=4),
    tested=st.lists(SESSIONS.filter(lambda user: sum(map(len, user)) > 1), min_size=1, max_size=3),
    extend_length=st.integers(0, 6),
)
def test_scores_are_those_of_the_formulas(
    kind: type, training: list[list[Session]], tested: list[list[Session]], extend_length: int
) -> None:
    keys = {**KEYS, "extend_length": extend_length}
    if kind is VSTAN:
        keys |= {"query_decay": 2.0, "session_decay": 5.0, "item_decay": 1.5}
    model = build(kind, keys)
    model.calculate_loss(batch_of(training, masked=False))
    scores = model.full_sort_predict(batch_of(tested, masked=True))
    for number, (user, found) in enumerate(zip(tested, scores, strict=True), start=1):
        assert found.tolist() == pytest.approx(slow_scores(kind, training, user, number, keys), rel=1e-5)


@pytest.mark.parametrize("model", ["VSKNN", "VSTAN"])
def test_it_trains_and_is_found_again(model: str, tmp_path, write_dataset: WriteDataset) -> None:  # type: ignore[no-untyped-def]
    import recbole_session

    write_dataset(random_rows())
    keys = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), "use_gpu": False}
    result = run_session(model, "toy", config_dict={**keys, "num_negatives": 5})
    assert result["epochs_run"] == 1
    answer = recbole_session.load(result["run_folder"]).recommend([("i1", 900_000_000), ("i2", 900_000_100)], k=3)
    assert len(answer.items) == 3
