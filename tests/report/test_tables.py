from types import SimpleNamespace

import pandas as pd
import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.report.analysis import Analysis
from recbole_session.report.headings import MISSING, how_many, metric_title, signed
from recbole_session.report.sentences import failures, legend
from recbole_session.report.tables import costs_markdown, metrics_frame, metrics_latex, metrics_markdown
from recbole_session.report.tidy import columns_of, costs_frame


def line(row, mean, place=0, verdict="", sd=None, p=None, p_methods=None):
    return {
        "row": row, "candidates": "all", "metric": "ndcg@10", "mean": mean, "sd_over_seeds": sd, "p": p,
        "p_methods": p_methods, "verdict": verdict, "epochs": "", "place": place,
    }  # fmt: skip


@pytest.fixture
def comparison(make_run):
    runs = tuple(make_run(name, {"all": [1, 2]}) for name in ("a", "b_%", "c"))
    reasons = {("d|<x>", 7): "out of\nmemory", ("c", 2021): "stopped"}
    return Comparison("test", "toy", ("a", "b_%", "c", "d|<x>", "e"), "a", runs, reasons)


@pytest.fixture
def whole():
    return pd.DataFrame(
        [
            line("a", 0.12341, 2),
            line("b_%", 0.3, 1, "better", 0.0123, 0.01),
            line("c", 0.05, 0, "worse", p=0.049),
        ]
    )


def analysis_of(comparison, whole):
    notes = {"legend": legend(comparison, whole), "failures": failures(comparison)}
    costs = costs_frame(comparison)
    return SimpleNamespace(comparison=comparison, costs=costs, whole=whole, columns=columns_of(whole), **notes)


def test_markdown_by_hand(comparison, whole):
    text = metrics_markdown(analysis_of(comparison, whole))
    assert text.splitlines() == [
        "| model | parameters | NDCG@10 all |",
        "| --- | ---: | ---: |",
        "| a | 1,234 | <u>0.1234</u> |",
        r"| b\_% | 1,234 | **0.3000** ± 0.0123† |",
        "| c [^1] | 1,234 | 0.0500‡ |",
        rf"| d\|&lt;x&gt; [^2] | {MISSING} | {MISSING} |",
        f"| e [^3] | {MISSING} | {MISSING} |",
        "",
        "The best value of a column is bold, the second best underlined.  ",
        "Mean ± standard deviation over the seeds 2020; without ±, of one seed.  ",
        "† significantly better, ‡ significantly worse than a: paired randomisation test over users (their mean over "
        "seeds), Holm-corrected over the whole table, p < 0.05.  ",
        "The marks compare these trained models; comparing the methods takes two seeds of the row and of the baseline.",
        "",
        "[^1]: c, seed 2021: failed: stopped",
        r"[^2]: d\|&lt;x&gt;, seed 7: failed: out of memory",
        "[^3]: e: not run",
    ]


def test_latex_by_hand(comparison, whole):
    lines = metrics_latex(analysis_of(comparison, whole)).splitlines()
    assert lines[:9] == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & & \multicolumn{1}{c}{all} \\",
        r"\cmidrule(lr){3-3}",
        r"model & parameters & NDCG@10 \\",
        r"\midrule",
        r"a & 1,234 & \underline{0.1234} \\",
        r"b\_\% & 1,234 & \textbf{0.3000} $\pm$ 0.0123$^\dagger$ \\",
    ]
    assert r"c$^{1}$ & 1,234 & 0.0500$^\ddagger$ \\" in lines
    assert r"d|<x>$^{2}$ & -- & -- \\" in lines
    assert r"\bottomrule" in lines
    assert "% 2: d|<x>, seed 7: failed: out of memory" in lines
    assert any(line.startswith(r"% $\dagger$ significantly better") for line in lines)


def test_csv_by_hand(comparison, whole):
    frame = metrics_frame(analysis_of(comparison, whole))
    assert list(frame) == ["row", "parameters", "seeds", "ndcg@10 all", "ndcg@10 all sd", "ndcg@10 all verdict", "note"]
    assert frame["ndcg@10 all"].tolist()[:3] == [0.12341, 0.3, 0.05]
    assert frame["ndcg@10 all"].isna().tolist() == [False, False, False, True, True]
    assert frame["ndcg@10 all verdict"].tolist()[1:3] == ["better", "worse"]
    assert frame["seeds"].tolist() == [1, 1, 1, 0, 0]


def legend_of(make_run, *lines):
    names = tuple(each["row"] for each in lines)
    comparison = Comparison("t", "toy", names, "a", tuple(make_run(name, {"all": [1]}) for name in names))
    return legend(comparison, pd.DataFrame(lines))


def test_the_legend_of_two_tests(make_run):
    lines = [line("a", 0.1, sd=0.1), line("b", 0.2, sd=0.1, p=0.01, p_methods=0.05)]
    assert legend_of(make_run, *lines)[2:] == [
        "† significantly better, ‡ significantly worse than a: paired randomisation test over users (their mean over "
        "seeds) and a test that counts users and seeds; Holm-corrected over the whole table, p < 0.05 in both."
    ]


def test_the_legend_names_rows_of_one_seed(make_run):
    lines = [line("a", 0.1, sd=0.1), line("b", 0.2, p=0.01), line("c", 0.3, sd=0.1, p=0.01, p_methods=0.01)]
    found = legend_of(make_run, *lines)
    assert "a test that counts users and seeds" in found[2]
    assert found[3:] == [
        "b: test over users alone; the marks compare these trained models; comparing the methods takes two "
        "seeds of the row and of the baseline."
    ]


def test_the_legend_says_that_the_baseline_has_no_result(make_run):
    comparison = Comparison("t", "toy", ("a", "b"), "a", (make_run("b", {"all": [1]}),), {("a", 1): "broken"})
    found = legend(comparison, pd.DataFrame([line("b", 0.1)]))
    assert found[-1] == "Nothing is tested: the baseline, a, has no result."


def test_without_any_result_the_table_still_says_why():
    comparison = Comparison("t", "toy", ("a",), "a", (), {("a", 1): "broken"})
    analysis = Analysis(comparison)
    assert "a, seed 1: failed: broken" in metrics_markdown(analysis)
    assert r"\end{tabular}" in metrics_latex(analysis)
    assert metrics_frame(analysis)["note"].tolist() == ["a, seed 1: failed: broken"]


def test_costs_are_means_over_seeds(make_run):
    runs = (
        make_run("a", {"all": [1]}, seed=1, train_seconds=10.0, best_epoch=4),
        make_run("a", {"all": [1]}, seed=2, train_seconds=20.0, best_epoch=7),
    )
    frame = costs_frame(Comparison("t", "toy", ("a", "b"), "a", runs, {("b", 1): "broken"}))
    assert frame.loc[0, ["training_seconds", "best_epoch", "epochs_run"]].tolist() == [15.0, 6.5, 6.0]
    assert "| a | 2 | 1,234 | 15.0 | 0.50 | 6.0 | 6.5 | cpu, threads: 1 |" in costs_markdown(frame)
    assert f"| b | 0 |{f' {MISSING} |' * 6}" in costs_markdown(frame)


def test_metrics_and_differences_as_text():
    assert [metric_title(name) for name in ("ndcg@10", "recall@5", "mrr@1")] == ["NDCG@10", "Recall@5", "MRR@1"]
    assert [signed(value) for value in (0.12345, -0.1, 0.0, -0.00001)] == [
        "+0.1235",
        "\N{MINUS SIGN}0.1000",
        "0.0000",
        "0.0000",
    ]


def test_the_size_of_a_sample():
    assert how_many(1200, 1200) == "1,200 users"
    assert how_many(1200, 34567) == "1,200 users, 34,567 targets"
