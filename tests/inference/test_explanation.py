import re
import struct
from pathlib import Path

import pytest
import torch

import recbole_session
from recbole_session.cli import main
from recbole_session.errors import InputError
from recbole_session.inference.explain_picture import draw_explanation
from recbole_session.inference.explanation import batch_without, explain, explanation_table
from recbole_session.inference.histories import Request, gather_histories
from recbole_session.inference.recommender import Recommender
from recbole_session.model.encoder import SelfAttention, Times
from tests.conftest import DAY
from tests.inference.conftest import ROWS, TITLES, TrainToy, histories_and_targets

HISTORY = [("i3", 100), ("i5", 200), ("i8", 2 * DAY), ("i9", 2 * DAY + 5)]


@pytest.fixture
def recommender(train_toy: TrainToy) -> Recommender:
    return recbole_session.load(train_toy())


@pytest.mark.parametrize("temporal_dim", [0, 4])
@pytest.mark.parametrize("places", [[4], [0, 1, 2, 3, 4]])
def test_weights_are_those_of_the_attention(temporal_dim: int, places: list[int]) -> None:
    """Weights times values, projected, must be what `forward` gives."""
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, 0.0, temporal_dim)
    states = torch.randn(3, 5, 8)
    temporal = Times(*[torch.randn(3, 5, 4)] * 2) if temporal_dim else None
    key_bias = torch.zeros(3, 1, 5)
    key_bias[1, ..., :2] = -torch.inf
    queries = torch.tensor([places] * 3)
    weights = attention.weights(states, key_bias, temporal, queries)
    assert weights.shape == (3, 2, len(places), 5)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2, len(places)))
    assert (weights[1, ..., :2] == 0).all()
    value = attention.value(states).unflatten(-1, (2, 4)).transpose(1, 2)
    expected = attention.output((weights @ value).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(states, key_bias, temporal, queries), expected, atol=1e-6)


def test_each_feature_is_taken_out_of_the_input_and_nothing_else(recommender: Recommender) -> None:
    histories = gather_histories([Request(HISTORY, now=3 * DAY)], recommender.item_ids, DAY)
    a, b, c, d = (recommender.item_ids[item] for item, _ in HISTORY)
    mask, token = recommender.vocabulary.n_items, recommender.vocabulary.n_items + 1
    whole = {
        "item_seq": [0, token, a, b, token, c, d, mask],
        "session_seq": [0, 1, 1, 1, 2, 2, 2, 2],
        "time_seq": [0, 100, 100, 200, 2 * DAY, 2 * DAY, 2 * DAY + 5, 3 * DAY],
    }
    expected = {
        "none": whole,
        "ST": {
            "item_seq": [0, 0, 0, a, b, c, d, mask],
            "session_seq": [0, 0, 0, 1, 1, 2, 2, 2],
            "time_seq": [0, 0, 0, 100, 200, 2 * DAY, 2 * DAY + 5, 3 * DAY],
        },
        "SSE": {**whole, "session_seq": [0] + [2] * 7},
        "TSA": {**whole, "time_seq": [0] + [3 * DAY] * 7},
    }
    for feature, columns in expected.items():
        batch = batch_without(recommender, histories, feature)
        assert {name: batch[name][0].tolist() for name in columns} == columns


def test_answers_are_what_recommend_says(recommender: Recommender) -> None:
    found = explain(recommender, Request(HISTORY, now=2 * DAY + 60, user="u1"), k=6)
    assert list(found.answers) == [
        "answer",
        "without ST",
        "without SSE",
        "without TSA",
        "session continues",
        "new session",
    ]
    for name, new_session in {"answer": "auto", "session continues": False, "new session": True}.items():
        said = recommender.recommend(HISTORY, now=2 * DAY + 60, new_session=new_session, k=6)
        assert found.answers[name] == said.items
    assert found.moments == {"session continues": 2 * DAY + 60, "new session": 2 * DAY + 60}
    assert not found.new_session
    open_end = explain(recommender, Request(HISTORY))
    assert open_end.moments == {"session continues": 2 * DAY + 5, "new session": 3 * DAY + 6}
    assert open_end.answers["new session"] == recommender.recommend(HISTORY, now=3 * DAY + 6).items


def test_attention_is_shared_among_what_the_model_reads(recommender: Recommender) -> None:
    history = [("i1", 0), ("i2", 1), ("new", 2), *((f"i{3 + place}", 10 + place) for place in range(6))]
    found = explain(recommender, Request(history))
    assert [event.item for event in found.events] == [item for item, _ in history if item != "new"]
    assert [event.attention is None for event in found.events] == [True] + [False] * 7  # 7 and the mask: 8 tokens
    assert sum(event.attention or 0 for event in found.events) + found.other_attention == pytest.approx(1)


def test_attention_is_that_of_the_answer_with_all_features(recommender: Recommender) -> None:
    histories = gather_histories([Request(HISTORY, now=3 * DAY)], recommender.item_ids, DAY)
    with torch.no_grad():
        expected = recommender.model.attention(recommender.batch(histories))[0]
    found = explain(recommender, Request(HISTORY, now=3 * DAY))
    events = [2, 3, 5, 6]  # beside padding, session tokens and the mask
    assert [event.attention for event in found.events] == pytest.approx(expected[events].tolist())


def test_the_table_says_what_changed(recommender: Recommender) -> None:
    found = explain(recommender, Request(HISTORY), k=3)
    object.__setattr__(found, "answers", {**found.answers, "answer": ["x", "y", "z"], "without ST": ["y", "x", "w"]})
    table = explanation_table(found)
    assert "- ST brings in z, and moves 2 of the other 2." in table
    assert "4 events in 2 session(s); the answer is for 1970-01-03 00:00:05 UTC, the session continues." in table
    assert "| 1970-01-03 00:00:05 | 2 | i9 |" in table


def test_models_without_sessions_are_explained_as_far_as_it_goes(train_toy: TrainToy) -> None:
    found = explain(recbole_session.load(train_toy("SASRec")), Request(HISTORY))
    assert list(found.answers) == ["answer", "session continues", "new session"]
    assert found.answers["answer"] == found.answers["new session"]
    assert {event.attention for event in found.events} == {None}
    assert "The model has no session features to take away." in explanation_table(found)


def test_nothing_known_is_nothing_to_explain(recommender: Recommender) -> None:
    with pytest.raises(InputError, match="there is nothing to explain"):
        explain(recommender, Request([("new", 1)], name="user 'u1'"))


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SASRec"])
def test_the_command_writes_a_picture_and_a_table(
    model: str, train_toy: TrainToy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    folder, picture = train_toy(model), tmp_path / "why.png"
    assert main(["explain", f"--run={folder}", "--user=u3", "--at=test", f"--output={picture}", "--k=5"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"why.png", "why.md"}
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert struct.unpack(">II", header[16:]) == (1560, 1080)
    table = (tmp_path / "why.md").read_text()
    assert table.rstrip() in capsys.readouterr().out
    history, target = histories_and_targets(ROWS)["u3"]
    answer = recbole_session.load(folder).recommend([row[1:] for row in history], now=target[2], k=5, user="u3")
    for rank, item in enumerate(answer.items, start=1):
        assert f"| {rank} | {item} |" in table


def test_mistakes_of_the_command(train_toy: TrainToy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, words in {
        ("--user=u33",): "user 'u33' has no position 'end' in the dataset; did you mean 'u3'?",
        ("--user=u3", "--k=0"): "k is 0",
        ("--user=u3", "--at=test", "--now=5"): "--at=test takes the moment",
        ("--user=u3", "--now=5"): "now is 5, before its last event",
    }.items():
        assert main(["explain", f"--run={train_toy()}", f"--output={tmp_path / 'why.png'}", *flags]) == 2
        assert words in capsys.readouterr().err
    assert main(["explain", f"--run={train_toy()}", "--user=u3", f"--output={tmp_path / 'why.pdf'}"]) == 2
    assert "must end in .png" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_names_of_items_and_nothing_that_a_name_could_break(
    train_toy: TrainToy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_toy(titled=True)
    recommender = recbole_session.load(folder)
    found = explain(recommender, Request([("i3", 100), ("i1", 200)]), k=40)
    assert set(found.titles) == {f"i{place}" for place in range(2, 40)} & set(recommender.vocabulary.items)
    assert found.titles["i3"] == TITLES["i3"]
    table = explanation_table(found)
    shown = r'Tom, "\$1" \| \$x_{}\$ [2J (i{})'
    assert f"| 1970-01-01 00:01:40 | 1 | {shown.format(3, 3)} |" in table
    assert "| 1970-01-01 00:03:20 | 1 | i1 |" in table
    assert all(line.count(" | ") == 6 for line in table.splitlines() if re.match(r"\| [0-9]+ \| ", line))
    pytest.importorskip("matplotlib")
    draw_explanation(found, tmp_path / "why.png")  # matplotlib would raise at a formula that is none
    assert main(["explain", f"--run={folder}", "--user=u3", f"--output={tmp_path / 'why.png'}"]) == 0
    shown_there = capsys.readouterr().out
    assert "\x1b" not in shown_there + (tmp_path / "why.md").read_text(encoding="utf-8")
    assert 'Tom, "$1" | $x_' in shown_there  # a terminal needs no marks of Markdown
