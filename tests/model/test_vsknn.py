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
from recbole_session.data.sequences import UserSequences, build_user_sequences
from recbole_session.model.vsknn import VSKNN, VSTAN
from recbole_session.run.run import Run
from recbole_session.run.training import run_session
from tests.conftest import WriteDataset, random_rows

N_ITEMS = 9  # padding included
DAY = 86_400

Session = list[int]
KEYS = {"n_neighbors": 3, "sample_size": 5, "extend_length": 3, "reminder_weight": 0.25}


def trained(kind: type, keys: dict[str, object], users: list[list[Session]]) -> VSKNN:
    sequences = sequences_of(users)
    rows = torch.ones(len(sequences.items), dtype=torch.bool)
    dataset = SimpleNamespace(num=lambda field: N_ITEMS, sequences=sequences, is_training_row=lambda: rows)
    model: VSKNN = kind(SessionConfig(kind, "toy", config_dict={"use_gpu": False, **keys}), dataset)
    for _ in range(2):  # a second batch, or epoch, adds nothing
        model.calculate_loss({})
    return model


def sequences_of(users: list[list[Session]]) -> UserSequences:
    """Each user's sessions, three days apart, items an hour apart."""
    rows = [
        (user, item, number, (10 * user + 3 * number) * DAY + 3_600 * place)
        for user, sessions in enumerate(users, start=1)
        for number, session in enumerate(sessions)
        for place, item in enumerate(session)
    ]
    owners, items, sessions, times = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return build_user_sequences(owners, items, times, len(users) + 1, sessions)


def batch_of(users: list[list[Session]]) -> dict[str, torch.Tensor]:
    """The last item of every user is the target."""
    sequences, ids = sequences_of(users), torch.arange(1, len(users) + 1)
    return {"user_id": ids, **token_batch(sequences, ids, sequences.offsets[2:], 40, mask_token(N_ITEMS))}


def slow_scores(
    kind: type, training: list[list[Session]], user: list[Session], number: int, keys: dict[str, object]
) -> list[float]:
    """Score every item for the last item of user ``number`` (from 1), by the docstrings of the classes."""
    opened = (10 * number + 3 * (len(user) - 1)) * DAY
    known = []  # (end, items) of every training session but the current one
    everywhere = []
    for owner, sessions in enumerate(training, start=1):
        for place, session in enumerate(sessions):
            end = (10 * owner + 3 * place) * DAY + 3_600 * (len(session) - 1)
            everywhere.append(session)
            if owner != number or len(user[-1]) == 1 or end < opened:
                known.append((end, session))
    order = sorted(range(len(known)), key=lambda index: known[index][0])
    history = [item for session in user for item in session][:-1]
    current = user[-1][:-1]
    query = current if len(current) >= keys["extend_length"] else history[-keys["extend_length"] :]
    now = opened + 3_600 * (len(user[-1]) - 1)
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
                gain = similarity * math.exp(-abs(place - last_place[latest]) / keys["item_decay"])
                gain *= math.exp((where[latest] - len(query)) / keys["score_decay"])
                idf = math.log(len(everywhere) / sum(item in session for session in everywhere))
                scores[item] += gain * (1 + keys["idf_weight"] * idf)
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
        keys |= {"query_decay": 2.0, "session_decay": 5.0, "item_decay": 1.5, "score_decay": 2.5, "idf_weight": 0.7}
    model = trained(kind, keys, training)
    scores = model.full_sort_predict(batch_of(tested))
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


def test_the_current_session_is_no_neighbour() -> None:
    """User 1 goes on with the session that training has: only user 2's earlier one resembles it."""
    model = trained(VSKNN, {**KEYS, "extend_length": 0}, [[[1, 2]], [[1, 7]]])
    assert model.full_sort_predict(batch_of([[[1, 2, 3]]]))[0].nonzero()[:, 0].tolist() == [1, 2, 7]
    assert model.full_sort_predict(batch_of([[[1, 2, 3]]]))[0, 2].item() == KEYS["reminder_weight"]


def test_it_reads_every_training_row_once(tmp_path, write_dataset: WriteDataset) -> None:  # type: ignore[no-untyped-def]
    """Neither the length of a history, nor keys of other models, nor more epochs change what is read."""
    write_dataset(random_rows())
    keys = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), "num_negatives": 5}
    found = []
    for more in ({}, {"MAX_ITEM_LIST_LENGTH": 3, "epochs": 3, "session_features": ["ST"], "window_stride": 0.5}):
        result = run_session("VSKNN", "toy", config_dict={"use_gpu": False, **keys, **more})
        found.append(Run(result["run_folder"]).model("cpu")[0].session_rows)
    assert len(found[0]) and torch.equal(*found)
    sessions = found[0][:, [3, 1]].unique(dim=0)
    assert sessions[:, 1].tolist() == list(range(len(sessions)))  # no session is of two users
