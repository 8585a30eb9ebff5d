import math
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

import recbole_session
from recbole_session.errors import InputError
from recbole_session.inference.recommender import Recommender
from recbole_session.model import SessionBERT4Rec
from tests.conftest import DAY, TINY_MODEL
from tests.inference.conftest import ROWS, TrainToy

HISTORY = [("i3", 100), ("i5", 200), ("i3", 300), ("i8", 400)]
CATALOGUE = {str(row[1]) for row in ROWS}


@pytest.fixture(scope="module")
def recommender(train_toy: TrainToy) -> Recommender:
    return recbole_session.load(train_toy())


def by_popularity(among: set[str] = CATALOGUE) -> list[tuple[str, float]]:
    """Counted by hand: most rows first, then first in the file."""
    counts = Counter(str(row[1]) for row in ROWS)
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])  # a Counter keeps the order of appearance
    return [(item, float(count)) for item, count in ordered if item in among]


def test_the_best_first_by_the_models_own_scores(recommender: Recommender) -> None:
    answer = recommender.recommend(HISTORY, now=500, k=5)
    assert len(answer.items) == len(set(answer.items)) == 5
    assert answer.scores == sorted(answer.scores, reverse=True)
    assert answer.source == "model"
    assert answer.skipped == 0
    assert not answer.new_session
    longer = recommender.recommend(HISTORY, now=500, k=9)
    assert longer.items[:5] == answer.items


def test_seen_items_stay_out_unless_wanted(recommender: Recommender) -> None:
    everything = recommender.recommend(HISTORY, k=10_000, exclude_seen=False)
    assert set(everything.items) == CATALOGUE
    unseen = recommender.recommend(HISTORY, k=10_000)
    assert set(unseen.items) == CATALOGUE - {"i3", "i5", "i8"}
    assert unseen.items == [item for item in everything.items if item in set(unseen.items)]


def test_items_seen_before_what_the_model_reads_stay_out_too(recommender: Recommender) -> None:
    history = [(f"i{place}", place) for place in range(20)]
    assert recommender.config["MAX_ITEM_LIST_LENGTH"] == 8
    answer = recommender.recommend(history, k=10_000)
    assert set(answer.items) == CATALOGUE - {item for item, _ in history}


def test_padding_mask_and_session_token_never_come_out(recommender: Recommender) -> None:
    """Even if they had the highest scores: all weights of the output point to padding."""
    with torch.no_grad():
        saved = recommender.model.output.bias.clone()
        recommender.model.output.bias[0] = 1e6
        answer = recommender.recommend(HISTORY, k=10_000, exclude_seen=False)
        recommender.model.output.bias.copy_(saved)
    assert set(answer.items) == CATALOGUE


def test_among(recommender: Recommender) -> None:
    everything = recommender.recommend(HISTORY, k=10_000, exclude_seen=False)
    some = ["i9", "i1", "i3", "unheard of", "i1"]
    answer = recommender.recommend(HISTORY, exclude_seen=False, among=some)
    assert answer.items == [item for item in everything.items if item in some]
    assert set(recommender.recommend(HISTORY, among=some).items) == {"i9", "i1"}
    assert recommender.recommend(HISTORY, among=["i3"]).items == []


def test_without_a_known_item_the_most_popular_and_it_says_so(recommender: Recommender) -> None:
    for history, skipped in (([], 0), ([("new", 5), ("newer", 6)], 2)):
        answer = recommender.recommend(history, k=12, now=7)
        assert list(zip(answer.items, answer.scores, strict=True)) == by_popularity()[:12]
        assert (answer.source, answer.skipped, answer.new_session) == ("popular", skipped, True)
    few = recommender.recommend([], among=["i1", "i2", "i4"])
    assert list(zip(few.items, few.scores, strict=True)) == by_popularity({"i1", "i2", "i4"})


def test_unknown_items_are_skipped_and_counted(recommender: Recommender) -> None:
    with_unknown = recommender.recommend([*HISTORY, ("new", 250)], now=500)
    without = recommender.recommend(HISTORY, now=500)
    assert with_unknown.skipped == 1
    assert with_unknown.items == without.items
    assert with_unknown.scores == without.scores


def test_auto_opens_a_session_after_the_gap(recommender: Recommender) -> None:
    soon, late = 400 + DAY, 401 + DAY
    for now in (soon, late):
        answers = {ask: recommender.recommend(HISTORY, now=now, new_session=ask) for ask in ("auto", True, False)}
        assert answers["auto"] == answers[now == late]
        assert answers[True].new_session
        assert not answers[False].new_session
        assert answers[True].scores != answers[False].scores


def test_several_at_once_equal_one_after_the_other(recommender: Recommender) -> None:
    histories = {"u1": HISTORY, "stranger": [("i1", 50)], "nobody": [], "u2": [("new", 1), ("i2", 9)]}
    nows, opens = [500, 60, 0, 99 * DAY], ["auto", True, "auto", False]
    alone = [
        recommender.recommend(history, now=now, new_session=ask, user=user)
        for (user, history), now, ask in zip(histories.items(), nows, opens, strict=True)
    ]
    by_user = recommender.recommend(histories, now=nows, new_session=opens)
    as_list = recommender.recommend(list(histories.values()), now=nows, new_session=opens)
    assert list(by_user) == list(histories)
    assert list(by_user.values()) == as_list
    for one, other in zip(alone, as_list, strict=True):
        assert one.items == other.items
        assert one.scores == pytest.approx(other.scores, abs=1e-6)
        assert (one.source, one.new_session, one.skipped) == (other.source, other.new_session, other.skipped)
    recommender.batch_size = 1
    in_pieces = recommender.recommend(histories, now=nows, new_session=opens)
    recommender.batch_size = 256
    assert [answer.items for answer in in_pieces.values()] == [answer.items for answer in as_list]
    assert recommender.recommend({}) == {}


def test_one_now_for_all_and_the_order_of_events_does_not_matter(recommender: Recommender) -> None:
    moment = datetime(1970, 1, 1, 1, tzinfo=UTC)
    answers = recommender.recommend([HISTORY, HISTORY[::-1]], now=moment)
    answers.append(recommender.recommend([list(pair) for pair in HISTORY], now=3600))
    for answer in answers[1:]:
        assert answer.items == answers[0].items
        assert answer.scores == pytest.approx(answers[0].scores, abs=1e-6)


def test_ties_go_to_the_item_that_comes_first_in_the_file(recommender: Recommender) -> None:
    saved = {name: value.clone() for name, value in recommender.model.state_dict().items()}
    with torch.no_grad():
        for parameter in recommender.model.output.parameters():
            parameter.zero_()
    answer = recommender.recommend(HISTORY, k=7, exclude_seen=False)
    recommender.model.load_state_dict(saved)
    assert answer.items == list(dict.fromkeys(str(row[1]) for row in ROWS))[:7]


def test_scores_that_are_no_numbers_are_not_recommended(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.full((1, len(CATALOGUE) + 1), math.nan)
    scores[0, 3] = 1.0
    monkeypatch.setattr(recommender.model, "full_sort_predict", lambda batch: scores.clone())
    assert recommender.recommend(HISTORY, exclude_seen=False).items == [recommender.vocabulary.items[2]]


@pytest.mark.parametrize(
    ("history", "keys", "words"),
    [
        (HISTORY, {"k": 0}, "k is 0; allowed: a whole number from 1"),
        (HISTORY, {"k": 2.5}, "k is 2.5"),
        (HISTORY, {"k": True}, "k is True"),
        (HISTORY, {"among": []}, "among names 0 items"),
        (HISTORY, {"among": ["?"]}, "the model knows none of them"),
        (HISTORY, {"among": "i1"}, "among is 'i1'; allowed: a list"),
        (HISTORY, {"now": 1}, "before its last event"),
        ("i1", {}, "history is a str; allowed: a list"),
        (5, {}, "history is a int"),
        ([HISTORY, HISTORY], {"now": [1000]}, "now has 1 values for 2 histories"),
        ({"a": HISTORY, "b": [("i1", "?")]}, {}, "the history of user 'b': a time is '\\?'"),
    ],
)
def test_mistakes_are_told(recommender: Recommender, history: object, keys: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        recommender.recommend(history, **keys)


def test_a_vector_per_user_is_used_and_a_new_user_gets_the_average(train_toy: TrainToy) -> None:
    loaded = recbole_session.load(train_toy("HGN"))
    known, other, new, unnamed = (
        loaded.recommend(HISTORY, k=5, user=user).scores for user in ("u1", "u2", "stranger", None)
    )
    assert known != other
    assert new == unnamed
    table = loaded.model.user_embedding.weight
    assert torch.equal(table[0], table[1:].mean(0))
    with torch.no_grad():
        table[loaded.user_ids["u1"]] = table[0]
    assert loaded.recommend(HISTORY, k=5, user="u1").scores == new


def test_loading_needs_no_dataset_and_leaves_the_random_state_alone(train_toy: TrainToy, tmp_path: Path) -> None:
    folder = train_toy()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("best.pth", "vocabulary.json"):
        (moved / name).write_bytes((folder / name).read_bytes())
    state = torch.get_rng_state()
    recommender = recbole_session.load(moved)
    assert torch.equal(torch.get_rng_state(), state)
    assert recommender.recommend(HISTORY) == recbole_session.load(folder).recommend(HISTORY)
    assert not recommender.model.training


def test_a_folder_that_holds_no_run_is_told(train_toy: TrainToy, tmp_path: Path) -> None:
    folder = train_toy()
    with pytest.raises(InputError, match=r"vocabulary.json cannot be read.*name the run folder of a trained model"):
        recbole_session.load(tmp_path)
    (tmp_path / "vocabulary.json").write_text('{"items": ["a"], "item_counts": [1], "users": []}')
    with pytest.raises(InputError, match=r"there is no .*best.pth; name the run folder"):
        recbole_session.load(tmp_path)
    (tmp_path / "best.pth").write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"best\.pth is not a whole checkpoint"):
        recbole_session.load(tmp_path)
    (tmp_path / "best.pth").write_bytes((folder / "best.pth").read_bytes())
    with pytest.raises(InputError, match="do not fit together"):
        recbole_session.load(tmp_path)


def test_a_model_class_of_ones_own(train_toy: TrainToy) -> None:
    class Mine(SessionBERT4Rec):
        pass

    keys = {"mask_ratio": 0.2, "ft_ratio": 0.0, "max_session_segments": 3, "layer_norm_eps": 1e-12}
    folder = train_toy(Mine, initializer_range=0.05, session_features="[ST]", **TINY_MODEL, **keys)
    with pytest.raises(InputError, match=r"model 'Mine' is neither this project's nor RecBole's; give its class"):
        recbole_session.load(folder)
    loaded = recbole_session.load(folder, model=Mine)
    assert isinstance(loaded.model, Mine)
    assert loaded.recommend(HISTORY).source == "model"


def test_a_device_that_is_not_there(train_toy: TrainToy) -> None:
    with pytest.raises(InputError, match="device is 'gpu', which torch cannot use here"):
        recbole_session.load(train_toy(), device="gpu")


def test_the_package_itself_stays_light() -> None:
    """The converters and the help of every subcommand must not wait for torch."""
    code = (
        "import sys, recbole_session, importlib, recbole_session.cli as cli\n"
        "for name in ('recommend', 'explain', 'export'): importlib.import_module(cli.SUBCOMMANDS[name])\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "assert callable(recbole_session.load) and 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        recbole_session.laod  # noqa: B018
