import math

import numpy as np
import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.user_values import common_columns, read_user_values


def compare(*runs):
    return Comparison("test", "toy", tuple(dict.fromkeys(run.name for run in runs)), "base", tuple(runs))


def test_values_by_seed_and_their_mean_per_user(make_run):
    comparison = compare(make_run("base", {"all": [1, 20]}, seed=1), make_run("base", {"all": [3, 2]}, seed=2))
    values = read_user_values(comparison)
    assert values.columns == (("all", "recall@10"), ("all", "ndcg@10"))
    # user 0: ndcg 1 and 1/log2(4); user 1: 0 and 1/log2(3)
    by_seed = [[[1, 1], [0, 0]], [[1, 0.5], [1, 1 / math.log2(3)]]]
    assert values.by_row["base"] == pytest.approx(np.array(by_seed))
    assert values.mean_of("base") == pytest.approx(np.array([[1, 0.75], [0.5, 0.5 / math.log2(3)]]))


def test_users_are_paired_by_their_ids_and_not_by_their_places(make_run):
    users, items = ["007", "b", "c"], ["x", "y", "z"]
    base = make_run("base", {"all": [1, 20, 5]}, users=users, items=items)
    other = make_run("other", {"all": [5, 20, 1]}, users=users[::-1], items=items[::-1])
    values = read_user_values(compare(base, other))
    assert values.users == ("007", "b", "c")
    assert values.items == ("x", "y", "z")
    assert (values.by_row["base"] == values.by_row["other"]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": ["u000", "u002"]}, "test users"),
        ({"items": ["i0", "i9"]}, "targets"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused(make_run, change, message):
    base, other = make_run("base", {"all": [1, 2]}), make_run("other", {"all": [1, 2]}, **change)
    with pytest.raises(InputError, match=f"different {message}"):
        read_user_values(compare(base, other))


def test_other_numbers_of_candidates_are_refused(make_run):
    base, other = make_run("base", {"all": [1, 2]}), make_run("other", {"all": [1, 2]})
    path = other.folder / "ranks.csv"
    path.write_text(path.read_text().replace("101", "51"))
    with pytest.raises(InputError, match="numbers of all candidates"):
        read_user_values(compare(base, other))


def test_runs_on_different_versions_of_a_dataset_are_refused(make_run):
    runs = [make_run(name, {"all": [1, 2]}, dataset_checksum=name * 20) for name in ("a", "b")]
    with pytest.raises(
        InputError, match=r"different versions of dataset 'toy' \(dataset_checksum 'bbbbbbbbbbbb' and 'a"
    ):
        read_user_values(compare(*runs))


def test_several_targets_of_a_user_are_one_user(make_run):
    """User a has three targets, b one: the mean over targets is 3/4, and a's value 3 targets / 4 * 2 users."""
    users, items = ["a", "b", "a", "a"], ["x", "y", "z", "x"]
    runs = [make_run("base", {"all": [1, 30, 5, 9]}, users=users, items=items)]
    for run in runs:
        ranks = run.folder / "ranks.csv"
        header, *lines = ranks.read_text().splitlines()
        ranks.write_text("\n".join([header, *sorted(lines)]) + "\n")
    values = read_user_values(compare(*runs))
    assert (len(values.users), len(values.weights)) == (4, 2)
    assert values.weights.tolist() == [1.5, 0.5]
    assert values.mean_of("base")[:, 0].tolist() == [1.5, 0.0]
    assert values.mean_of("base")[:, 0].mean() == 0.75
    alone = values.subset(np.array([True, False, False, True]))
    assert (alone.users, alone.weights.tolist()) == (("a", "b"), [1.0, 1.0])
    assert alone.mean_of("base")[:, 0].tolist() == [1.0, 0.0]


def test_missing_ranks_name_their_folder(make_run):
    run = make_run("base", {"all": [1, 2]})
    (run.folder / "ranks.csv").unlink()
    with pytest.raises(InputError, match=str(run.folder)):
        read_user_values(compare(run))


def test_columns_are_those_that_all_runs_have(make_run):
    runs = [make_run("base", {"random": [1], "all": [2]}), make_run("other", {"all": [2]})]
    assert common_columns(runs) == [("all", "recall@10"), ("all", "ndcg@10")]
