import math
import statistics

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_session.compare.runs import Comparison
from recbole_session.report import headings, tidy
from recbole_session.report.report import write_report
from recbole_session.report.significance import holm
from recbole_session.report.tidy import tidy_table
from recbole_session.report.user_values import read_user_values


def compare(*runs, baseline="base", **keys):
    names = tuple(dict.fromkeys(run.name for run in runs))
    return Comparison("test", "toy", names, baseline, tuple(runs), **keys)


def table_of(comparison):
    return tidy_table(comparison, read_user_values(comparison)).set_index(["row", "metric"])


def test_a_cell_by_hand(make_run):
    base = [make_run("base", {"all": [20] * 8}, seed=seed) for seed in (1, 2)]
    better = [
        make_run("better", {"all": [1] * 4 + [20] * 4}, seed=1),
        make_run("better", {"all": [1] * 6 + [20] * 2}, seed=3),
    ]
    table = table_of(compare(*base, *better))
    recall = table.loc[("better", "recall@10")]
    assert (recall["users"], recall["seeds"], recall["mean"]) == (8, 2, pytest.approx(5 / 8))
    assert recall["sd_over_seeds"] == pytest.approx(statistics.stdev([4 / 8, 6 / 8]))
    assert 0 < recall["ci_low"] < 5 / 8 < recall["ci_high"] < 1
    assert recall["difference"] == pytest.approx(5 / 8)  # users: 1 1 1 1 .5 .5 0 0
    ends = (recall["difference_ci_low"], recall["difference_ci_high"])
    assert ends == pytest.approx((recall["ci_low"], recall["ci_high"]))  # the baseline is 0 throughout
    assert (recall["p"], recall["test"]) == (pytest.approx(2 / 2**6), "exact")
    assert recall["p_holm"] == pytest.approx(2 * 2 / 2**6)  # recall and NDCG are one family of two
    assert (recall["users_improved"], recall["users_worsened"]) == (6 / 8, 0)
    counts = ["seeds_better", "seeds_worse", "seeds_paired"]
    assert recall[counts].tolist() == [1, 0, 1]  # seed 1 alone is in both
    assert recall["verdict"] == ""
    assert (recall["place"], table.loc[("base", "recall@10"), "place"]) == (1, 2)
    assert pd.isna(table.loc[("base", "recall@10"), ["difference", "p", "seeds_paired"]]).all()
    of_users = (4 * (3 / 8) ** 2 + 2 * (1 / 8) ** 2 + 2 * (5 / 8) ** 2) / 7 / 8
    of_seeds = 2 * (1 / 8) ** 2 / 2  # 4/8 and 6/8, about 5/8; the baseline's seeds are alike
    errors = (recall["error_of_users"], recall["error_of_seeds"])
    assert errors == pytest.approx((math.sqrt(of_users), math.sqrt(of_seeds)))
    degrees = (of_users + of_seeds) ** 2 / (of_users**2 / 7 + of_seeds**2 / 1)
    assert recall["p_methods"] == pytest.approx(2 * stats.t.sf(5 / 8 / math.sqrt(of_users + of_seeds), degrees))
    assert recall["p_methods_holm"] == pytest.approx(2 * recall["p_methods"])


def hits(n, of=40):
    """Ranks of which the first ``n`` are hits; NDCG and recall are the same, 1 or 0."""
    return {"all": [1] * n + [20] * (of - n)}


def versus_of(comparison):
    table = table_of(comparison)
    return {key: line for key, line in table.iterrows() if not pd.isna(line["p"])}


def test_what_users_find_and_seeds_contradict_is_not_marked(make_run):
    base = [make_run("base", hits(0), seed=seed) for seed in (1, 2)]
    other = [make_run("other", hits(n), seed=seed) for seed, n in ((1, 20), (2, 0))]
    versus = versus_of(compare(*base, *other))["other", "recall@10"]
    assert versus.difference == pytest.approx(0.25)  # half of the users, in half of the seeds
    assert versus.error_of_seeds == pytest.approx(0.25)  # 1/2 and 0 have the variance 1/8, two seeds halve it
    assert versus.error_of_users == pytest.approx(0.25 / math.sqrt(39))
    assert versus.p_holm < 0.001  # twenty users agree
    assert 0.3 < versus.p_methods < 0.6  # t is 0.25 / 0.2532, with little more than one degree of freedom
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
    assert versus[["p_methods", "p_methods_holm", "error_of_users", "error_of_seeds"]].isna().all()


def test_one_user_is_no_sample(make_run):
    runs = [make_run(name, {"all": [rank]}, seed=seed) for name, rank in (("base", 20), ("b", 1)) for seed in (1, 2)]
    versus = versus_of(compare(*runs))["b", "recall@10"]
    assert (versus.p, versus.verdict) == (1.0, "")
    assert versus[["p_methods", "ci_low", "difference_ci_low"]].isna().all()


def test_the_family_of_the_second_test_is_the_whole_table(make_run):
    base = [make_run("base", hits(10), seed=seed) for seed in (1, 2)]
    two = [make_run("two", hits(n), seed=seed) for seed, n in ((1, 16), (2, 15))]
    versus = versus_of(compare(*base, *two, make_run("one", hits(15))))
    assert len(versus) == 4
    for metric in ("recall@10", "ndcg@10"):
        assert pd.isna(versus["one", metric].p_methods_holm)
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
    versus = versus_of(comparison)
    for metric in ("recall@10", "ndcg@10"):
        assert [versus[row, metric].verdict for row in ("better", "worse", "same")] == ["better", "worse", ""]
    tested = list(versus.values())
    assert len(tested) == 6
    assert [line.p_holm for line in tested] == pytest.approx(holm(np.array([line.p for line in tested])).tolist())


def test_one_seed_has_no_deviation_and_no_baseline_means_no_tests(make_run):
    table = table_of(compare(make_run("a", {"all": [1, 2, 3]}), make_run("b", {"all": [3, 2, 1]})))
    assert table[["sd_over_seeds", "difference", "p", "p_methods"]].isna().all(axis=None)
    assert table["ci_low"].notna().all()


def test_metrics_that_are_no_means_over_users_have_a_mean_and_nothing_else(make_run):
    test = {"all": {"recall@10": 1.0, "itemcoverage@10": 0.25}}
    table = table_of(compare(*(make_run(name, {"all": [1, 2]}, test=test) for name in ("base", "other"))))
    coverage = table.xs("itemcoverage@10", level="metric")
    assert coverage["mean"].tolist() == [0.25, 0.25]
    assert coverage[["ci_low", "difference", "p", "seeds_paired"]].isna().all(axis=None)


def places(make_run, metric="itemcoverage@10", **means):
    runs = [make_run(name, {"all": [1]}, test={"all": {metric: mean}}) for name, mean in means.items()]
    return table_of(compare(*runs))["place"].tolist()


def test_what_prints_alike_has_the_same_place(make_run):
    assert places(make_run, a=0.50001, b=0.50002, c=0.4, d=0.3) == [1, 1, 2, 0]


def test_less_is_better_where_it_is(make_run):
    assert places(make_run, metric="giniindex@10", a=0.1, b=0.2) == [1, 2]


def test_a_single_row_is_no_winner(make_run):
    assert places(make_run, a=0.1) == [0]


FACTS = pd.DataFrame(
    {
        "opens_session": [True, False] * 4,
        "gap": 5,
        "sessions": 1,
        "items": [3, 3, 3, 4, 5, 6, 7, 1000],
        "popularity": 0,
    },
    index=list("abcdefgh"),
)


def test_metrics_within_slices_by_hand(make_run):
    base = [make_run("base", {"all": [20] * 8}, seed=seed) for seed in (1, 2)]
    ranks = [1, 20, 1, 20, 1, 20, 20, 20]
    other = [make_run("other", {"all": ranks}, seed=1), make_run("other", {"all": [20] * 8}, seed=2)]
    comparison = compare(*base, *other)
    table = tidy_table(comparison, read_user_values(comparison), FACTS)
    recall = table[(table["metric"] == "recall@10") & (table["row"] == "other")].set_index(["fact", "slice"])
    first = recall.loc[("opens_session", "first item")]
    assert (first["users"], first["mean"], first["difference"]) == (4, 3 / 8, 3 / 8)  # .5 .5 .5 0
    assert first["difference_ci_low"] == 0.125  # a resample of .5 .5 .5 0 has a mean of .125 in 4.7% of the draws
    assert first["difference_ci_high"] == 0.5
    alone = recall.loc[("items", "4")]
    assert (alone["users"], alone["difference"]) == (1, 0)
    assert pd.isna(alone["difference_ci_low"])  # one user has no interval
    for (_, row, metric), part in table[table["slice"] != ""].groupby(["fact", "row", "metric"]):
        whole = table[(table["slice"] == "") & (table["row"] == row) & (table["metric"] == metric)]
        assert (part["mean"] * part["users"]).sum() / 8 == pytest.approx(whole["mean"].item())


def test_a_statistic_of_ones_own_is_a_column(make_run, monkeypatch, tmp_path):
    """As docs/extending.md shows it."""
    monkeypatch.setattr(tidy, "STATISTICS", tidy.STATISTICS.copy())
    monkeypatch.setattr(headings, "DIFFERENCES", headings.DIFFERENCES)
    monkeypatch.setitem(headings.DIFFERENCES, "p_wilcoxon", None)

    def wilcoxon(values, baseline):
        return {"p_wilcoxon": stats.wilcoxon(values.differences(baseline)).pvalue}

    tidy.STATISTICS.append(wilcoxon)
    headings.DIFFERENCES["p_wilcoxon"] = headings.Heading(
        "p, Wilcoxon", lambda line: headings.written_p(line["p_wilcoxon"])
    )
    ranks = {"base": [9, 8, 7, 6, 30], "other": [1, 2, 3, 4, 30]}
    comparison = compare(*(make_run(name, {"all": each}) for name, each in ranks.items()))
    write_report(comparison, tmp_path / "out")
    assert "| p, Wilcoxon |" in (tmp_path / "out" / "report.md").read_text()
    assert "p, Wilcoxon" in (tmp_path / "out" / "report.html").read_text()
    significance = pd.read_csv(tmp_path / "out" / "significance.csv").set_index(["row", "metric"])
    assert significance.loc[("other", "ndcg@10"), "p_wilcoxon"] == 0.125  # four users, all better: 2 / 2**4


def test_users_with_several_targets_are_resampled_with_all_of_them(make_run):
    """The mean over targets of resampled users, computed one resample at a time."""
    generator = np.random.default_rng(0)
    users = np.repeat([f"u{number:02}" for number in range(20)], generator.integers(1, 6, 20))
    hits = generator.random(len(users)) < 0.4
    run = make_run("base", {"all": np.where(hits, 1, 30)}, users=users.tolist())
    recall = table_of(compare(run)).loc[("base", "recall@10")]
    assert (recall["users"], recall["targets"], recall["mean"]) == (20, len(users), pytest.approx(hits.mean()))
    sums, counts = (np.array([pick(hits[users == user]) for user in np.unique(users)]) for pick in (np.sum, len))
    drawn = generator.integers(20, size=(20_000, 20))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    assert (recall["ci_low"], recall["ci_high"]) == pytest.approx((low, high), abs=0.01)
