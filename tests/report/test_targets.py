import pandas as pd

from recbole_session.data.dataset import SessionDataset
from recbole_session.report.targets import dataset_table, slice_users, user_facts
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
    found = {
        fact: {name: slices.index[slices == name].tolist() for name in slices.cat.categories}
        for fact, slices in slice_users(FACTS).items()
    }
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


def test_items_without_training_rows_are_a_slice_of_their_own():
    facts = FACTS.assign(popularity=[0, 1, 2, 3, 4, 5, 6, 7])  # quartiles 1, 3, 5 and 7
    slices = slice_users(facts)["popularity"]
    assert slices.tolist() == ["0", "1", "2 to 3", "2 to 3", "4 to 5", "4 to 5", "6 to 7", "6 to 7"]


def test_facts_by_hand(write_dataset, build_config):
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
