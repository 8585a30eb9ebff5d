import math
import statistics

import numpy as np
import pytest

from recbole_session.errors import InputError
from recbole_session.experiment.cells import (
    cell_statistics,
    common_columns,
    read_user_values,
    significance_frame,
)
from recbole_session.experiment.runs import Comparison
from recbole_session.experiment.significance import holm


def compare(*runs, baseline="base", **keys):
    names = tuple(dict.fromkeys(run.name for run in runs))
    return Comparison("test", "toy", names, baseline, tuple(runs), **keys)


def cells_of(comparison):
    return cell_statistics(comparison, read_user_values(comparison))


def test_seeds_are_averaged_per_user(make_run):
    comparison = compare(make_run("base", {"all": [1, 20]}, seed=1), make_run("base", {"all": [3, 2]}, seed=2))
    values = read_user_values(comparison)
    assert values.columns == (("all", "recall@10"), ("all", "ndcg@10"))
    # user 0: ndcg 1 and 1/log2(4); user 1: 0 and 1/log2(3)
    assert values.by_row["base"] == pytest.approx(np.array([[1, 0.75], [0.5, 0.5 / math.log2(3)]]))


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


def test_missing_ranks_name_their_folder(make_run):
    run = make_run("base", {"all": [1, 2]})
    (run.folder / "ranks.csv").unlink()
    with pytest.raises(InputError, match=str(run.folder)):
        read_user_values(compare(run))


def test_columns_are_those_that_all_runs_have(make_run):
    runs = [make_run("base", {"random": [1], "all": [2]}), make_run("other", {"all": [2]})]
    assert common_columns(runs) == [("all", "recall@10"), ("all", "ndcg@10")]
    assert common_columns([]) == []


def test_a_cell_by_hand(make_run):
    base = [make_run("base", {"all": [20] * 8}, seed=seed) for seed in (1, 2)]
    better = [
        make_run("better", {"all": [1] * 4 + [20] * 4}, seed=1),
        make_run("better", {"all": [1] * 6 + [20] * 2}, seed=3),
    ]
    cells = {(cell.row, cell.metric): cell for cell in cells_of(compare(*base, *better))}
    recall = cells["better", "recall@10"]
    assert (recall.n_seeds, recall.mean) == (2, pytest.approx(5 / 8))
    assert recall.deviation == pytest.approx(statistics.stdev([4 / 8, 6 / 8]))
    assert 0 < recall.interval[0] < 5 / 8 < recall.interval[1] < 1
    versus = recall.versus
    assert versus.difference == pytest.approx(5 / 8)  # users: 1 1 1 1 .5 .5 0 0
    assert versus.interval == pytest.approx(recall.interval)  # the baseline is 0 throughout
    assert versus.p == pytest.approx(2 / 2**6)
    assert versus.exact
    assert versus.p_holm == pytest.approx(2 * 2 / 2**6)  # recall and NDCG are one family of two
    assert (versus.improved, versus.worsened) == (6 / 8, 0)
    assert (versus.seeds_better, versus.seeds_worse, versus.seeds_paired) == (1, 0, 1)  # seed 1 alone is in both
    assert versus.verdict == ""
    assert cells["base", "recall@10"].versus is None


def test_verdicts_and_the_family(make_run):
    generator = np.random.default_rng(0)
    ranks = generator.integers(5, 40, size=200)
    comparison = compare(
        make_run("base", {"all": ranks}),
        make_run("better", {"all": np.maximum(1, ranks - 10)}),
        make_run("worse", {"all": ranks + 10}),
        make_run("same", {"all": generator.permutation(ranks)}),
    )
    cells = cells_of(comparison)
    verdicts = {(cell.row, cell.metric): cell.versus.verdict for cell in cells if cell.versus}
    for metric in ("recall@10", "ndcg@10"):
        assert verdicts["better", metric] == "better"
        assert verdicts["worse", metric] == "worse"
        assert verdicts["same", metric] == ""
    tested = [cell.versus for cell in cells if cell.versus]
    assert len(tested) == 6
    assert [versus.p_holm for versus in tested] == pytest.approx(
        holm(np.array([versus.p for versus in tested])).tolist()
    )


def test_one_seed_has_no_deviation_and_no_baseline_means_no_tests(make_run):
    comparison = compare(make_run("a", {"all": [1, 2, 3]}), make_run("b", {"all": [3, 2, 1]}))
    cells = cells_of(comparison)
    assert all(cell.versus is None and cell.deviation is None and cell.interval for cell in cells)


def test_metrics_that_are_no_means_over_users_have_a_mean_and_nothing_else(make_run):
    test = {"all": {"recall@10": 1.0, "itemcoverage@10": 0.25}}
    comparison = compare(*(make_run(name, {"all": [1, 2]}, test=test) for name in ("base", "other")))
    coverage = [cell for cell in cells_of(comparison) if cell.metric == "itemcoverage@10"]
    assert [(cell.mean, cell.interval, cell.versus) for cell in coverage] == [(0.25, None, None)] * 2


def test_significance_file_has_a_line_per_cell(make_run):
    comparison = compare(make_run("base", {"all": [1, 20]}), make_run("other", {"all": [1, 1]}))
    frame = significance_frame(comparison, cells_of(comparison))
    assert frame[["row", "metric"]].to_numpy().tolist() == [
        ["base", "recall@10"], ["base", "ndcg@10"], ["other", "recall@10"], ["other", "ndcg@10"],
    ]  # fmt: skip
    assert frame["difference"].isna().tolist() == [True, True, False, False]
    assert frame.loc[2, "test"] == "exact"
