import math
import statistics

import numpy as np
import pytest
from scipy import stats

from recbole_session.compare.runs import Comparison
from recbole_session.report.cells import cell_statistics, significance_frame
from recbole_session.report.significance import holm
from recbole_session.report.user_values import read_user_values


def compare(*runs, baseline="base", **keys):
    names = tuple(dict.fromkeys(run.name for run in runs))
    return Comparison("test", "toy", names, baseline, tuple(runs), **keys)


def cells_of(comparison):
    return cell_statistics(comparison, read_user_values(comparison))


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
    of_users = (4 * (3 / 8) ** 2 + 2 * (1 / 8) ** 2 + 2 * (5 / 8) ** 2) / 7 / 8
    of_seeds = 2 * (1 / 8) ** 2 / 2  # 4/8 and 6/8, about 5/8; the baseline's seeds are alike
    assert (versus.error_of_users, versus.error_of_seeds) == pytest.approx((math.sqrt(of_users), math.sqrt(of_seeds)))
    degrees = (of_users + of_seeds) ** 2 / (of_users**2 / 7 + of_seeds**2 / 1)
    assert versus.p_methods == pytest.approx(2 * stats.t.sf(5 / 8 / math.sqrt(of_users + of_seeds), degrees))
    assert versus.p_methods_holm == pytest.approx(2 * versus.p_methods)


def hits(n, of=40):
    """Ranks of which the first ``n`` are hits; NDCG and recall are the same, 1 or 0."""
    return {"all": [1] * n + [20] * (of - n)}


def versus_of(comparison):
    return {(cell.row, cell.metric): cell.versus for cell in cells_of(comparison) if cell.versus}


def test_what_users_find_and_seeds_contradict_is_not_marked(make_run):
    base = [make_run("base", hits(0), seed=seed) for seed in (1, 2)]
    other = [make_run("other", hits(n), seed=seed) for seed, n in ((1, 20), (2, 0))]
    versus = versus_of(compare(*base, *other))["other", "recall@10"]
    assert versus.difference == pytest.approx(0.25)  # half of the users, in half of the seeds
    assert versus.error_of_seeds == pytest.approx(0.25)  # 1/2 and 0 have the variance 1/8, two seeds halve it
    assert versus.error_of_users == pytest.approx(0.25 / math.sqrt(39))
    assert versus.p_holm < 0.001  # twenty users agree
    assert 0.3 < versus.p_methods < 0.6  # t is 0.25 / 0.2532, with little more than one degree of freedom
    assert versus.models_differ
    assert versus.verdict == ""


@pytest.mark.parametrize(("baseline", "verdict"), [(0, "better"), (40, "worse")])
def test_what_users_and_seeds_find_is_marked(make_run, baseline, verdict):
    base = [make_run("base", hits(baseline), seed=seed) for seed in (1, 2)]
    other = [make_run("other", hits(n), seed=seed) for seed, n in ((1, 20), (2, 19))]
    versus = versus_of(compare(*base, *other))["other", "recall@10"]
    assert versus.error_of_seeds == pytest.approx(1 / 80)  # 20/40 and 19/40
    assert versus.p_holm < 0.001
    assert versus.p_methods_holm < 0.001
    assert versus.verdict == verdict


def test_what_seeds_alone_find_is_not_marked(make_run):
    """Five users who agree: the signs are all alike once in 16 times, however steady the trainings."""
    base = [make_run("base", hits(0, of=6), seed=seed) for seed in (1, 2)]
    other = [make_run("other", hits(5, of=6), seed=seed) for seed in (1, 2)]
    versus = versus_of(compare(*base, *other))["other", "recall@10"]
    assert versus.p == pytest.approx(2 / 2**5)
    assert versus.p_methods == pytest.approx(2 * stats.t.sf(5, 5))  # 5/6 over its error 1/6
    assert versus.p_methods_holm < 0.05
    assert versus.verdict == ""


@pytest.mark.parametrize(("of_base", "of_other"), [(1, 1), (1, 2), (2, 1)])
def test_with_one_seed_of_either_the_users_decide(make_run, of_base, of_other):
    base = [make_run("base", hits(0), seed=seed) for seed in range(of_base)]
    other = [make_run("other", hits(20 - 20 * seed), seed=seed) for seed in range(of_other)]
    versus = versus_of(compare(*base, *other))["other", "recall@10"]
    assert versus.p_holm < 0.001
    assert versus.verdict == "better"
    noise = (versus.p_methods, versus.p_methods_holm, versus.error_of_users, versus.error_of_seeds)
    assert noise == (None,) * 4


def test_one_user_is_no_sample(make_run):
    runs = [make_run(name, {"all": [rank]}, seed=seed) for name, rank in (("base", 20), ("b", 1)) for seed in (1, 2)]
    versus = versus_of(compare(*runs))["b", "recall@10"]
    assert (versus.p, versus.p_methods, versus.verdict) == (1.0, None, "")


def test_the_family_of_the_second_test_is_the_whole_table(make_run):
    base = [make_run("base", hits(10), seed=seed) for seed in (1, 2)]
    two = [make_run("two", hits(n), seed=seed) for seed, n in ((1, 16), (2, 15))]
    versus = versus_of(compare(*base, *two, make_run("one", hits(15))))
    assert len(versus) == 4
    for metric in ("recall@10", "ndcg@10"):
        assert versus["one", metric].p_methods_holm is None
        assert versus["two", metric].p_methods_holm == pytest.approx(4 * versus["two", metric].p_methods)


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
    assert frame[["p_methods", "p_methods_holm", "error_of_users", "error_of_seeds"]].isna().all(axis=None)


def test_significance_file_has_what_the_second_test_says(make_run):
    base = [make_run("base", hits(0), seed=seed) for seed in (1, 2)]
    other = [make_run("other", hits(n), seed=seed) for seed, n in ((1, 20), (2, 0))]
    cells = cells_of(compare(*base, *other))
    line = significance_frame(compare(*base, *other), cells).iloc[2]
    assert line["error_of_seeds"] == pytest.approx(0.25)
    assert line["error_of_users"] == pytest.approx(0.25 / math.sqrt(39))
    assert line["p_methods"] == cells[2].versus.p_methods
    assert line["p_methods_holm"] == cells[2].versus.p_methods_holm == pytest.approx(2 * line["p_methods"])
