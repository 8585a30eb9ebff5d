import numpy as np
import pandas as pd
import pytest

from recbole_session.errors import InputError
from recbole_session.report.facts import dataset_table, user_facts
from recbole_session.report.slices import slice_users, slices_frame
from recbole_session.report.user_values import UserValues
from tests.conftest import DAY

FACTS = pd.DataFrame(
    {
        "item_id": list("stuvwxyz"),
        "opens_session": [True, False, False, False, True, False, False, False],
        "gap": [0, 60, 61, 3600, 3601, DAY, 7 * DAY, 7 * DAY + 1],
        "sessions": [1, 1, 1, 1, 1, 1, 2, 5],
        "items": [3, 3, 3, 4, 5, 6, 7, 1000],
        "popularity": [0, 0, 0, 0, 0, 0, 0, 0],
    },
    index=list("abcdefgh"),
)


def test_slices_by_hand():
    found = {}
    for part in slice_users(FACTS):
        found.setdefault(part.fact, {})[part.name] = part.members.tolist()
    assert found == {
        "opens_session": {"first item": [0, 4], "later item": [1, 2, 3, 5, 6, 7]},
        "gap": {
            "1 minute or less": [0, 1],
            "1 minute to 1 hour": [2, 3],
            "1 hour to 1 day": [4, 5],
            "1 to 7 days": [6],
            "more than 7 days": [7],
        },
        # Quartiles of the sorted values, each the least value with a quarter of the users at or below it.
        "sessions": {"1": [0, 1, 2, 3, 4, 5], "2 to 5": [6, 7]},
        "items": {"3": [0, 1, 2], "4": [3], "5 to 6": [4, 5], "7 to 1,000": [6, 7]},
        "popularity": {"0": list(range(8))},
    }


def values_of(**rows):
    """Two seeds of every row, half a point above and below the values given."""
    columns = (("all", "recall@10"), ("all", "ndcg@10"))
    by_row = {name: np.stack([matrix - 0.5, matrix + 0.5]) for name, matrix in rows.items()}
    return UserValues(tuple(FACTS.index), tuple(FACTS["item_id"]), columns, by_row)


def test_metrics_within_slices_by_hand():
    base = np.stack([np.arange(8.0), np.zeros(8)], axis=1)
    other = base + np.array([1.0, 0.5])
    frame = slices_frame(values_of(base=base, other=other), FACTS, "base")
    first = frame[(frame["slice"] == "first item") & (frame["metric"] == "recall@10")].set_index("row")
    assert first.loc["base", "mean"] == 2  # users 0 and 4
    assert first.loc["other", ["users", "mean", "difference", "ci_low", "ci_high"]].tolist() == [2, 3, 1, 1, 1]
    assert np.isnan(first.loc["base", "difference"])
    alone = frame[(frame["slice"] == "1 to 7 days") & (frame["row"] == "other") & (frame["metric"] == "ndcg@10")]
    assert alone[["users", "difference"]].to_numpy().tolist() == [[1, 0.5]]
    assert alone["ci_low"].isna().all()  # one user has no interval


def test_the_slices_of_a_fact_weigh_up_to_the_whole():
    generator = np.random.default_rng(0)
    values = values_of(base=generator.random((8, 2)), other=generator.random((8, 2)))
    frame = slices_frame(values, FACTS, "base")
    for (_, row, metric), part in frame.groupby(["fact", "row", "metric"]):
        place = [column[1] for column in values.columns].index(metric)
        assert (part["mean"] * part["users"]).sum() / 8 == pytest.approx(values.by_row[row][:, :, place].mean())


def test_without_a_baseline_there_are_means_only():
    frame = slices_frame(values_of(other=np.ones((8, 2))), FACTS, "base")
    assert "difference" not in frame


@pytest.mark.parametrize("changed", [FACTS.iloc[:-1], FACTS.assign(item_id=list("stuvwxy!"))])
def test_another_dataset_is_refused(changed):
    with pytest.raises(InputError, match="dataset has changed"):
        slices_frame(values_of(base=np.ones((8, 2))), changed, "base")


def test_facts_by_hand(write_dataset, build_config):
    from recbole_session.data.dataset import SessionDataset

    rows = [
        # Two sessions, the target opens the second: history of one session and three items.
        ("u2", "a", 1000), ("u2", "b", 1010), ("u2", "c", 1020), ("u2", "a", 1020 + 2 * DAY),
        # Three sessions in the history, the target goes on in the third.
        ("u1", "a", 0), ("u1", "b", 3 * DAY), ("u1", "c", 6 * DAY), ("u1", "d", 6 * DAY + 7),
        # Too short to be tested.
        ("u3", "a", 5), ("u3", "a", 6),
    ]  # fmt: skip
    write_dataset(rows)
    dataset = SessionDataset(build_config("SASRec"))
    dataset.build()
    facts = user_facts(dataset)
    assert facts.index.tolist() == ["u1", "u2"]
    assert facts.loc["u1"].to_dict() == {
        "item_id": "d", "opens_session": False, "gap": 7, "sessions": 3, "items": 3, "popularity": 0,
    }  # fmt: skip
    # Training rows that hold a: one of u1, one of u2, two of u3; the targets are not among them.
    assert facts.loc["u2"].to_dict() == {
        "item_id": "a", "opens_session": True, "gap": 2 * DAY, "sessions": 1, "items": 3, "popularity": 4,
    }  # fmt: skip
    table = dict(dataset_table(dataset))
    assert (table["#users"], table["#items"], table["#rows"], table["#test users"]) == ("3", "4", "10", "2")
    assert table["session/user Q1/Q2/Q3"] == "1.5/2/2.5"  # 3, 2 and 1 sessions
