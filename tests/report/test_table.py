import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.report.cells import Cell, Versus
from recbole_session.report.table import (
    MISSING,
    build_table,
    costs_frame,
    costs_markdown,
    metric_title,
    signed,
    to_frame,
    to_latex,
    to_markdown,
)


def cell(row, mean, p_holm=None, deviation=None, metric="ndcg@10", candidates="all", difference=0.1, p_methods=None):
    versus = None
    if p_holm is not None:
        noise = (None,) * 4 if p_methods is None else (p_methods, p_methods, 0.01, 0.01)
        versus = Versus(difference, (0.0, 0.2), p_holm, p_holm, True, 0.1, 0.5, 0.1, 1, 0, 1, *noise)
    return Cell(row, candidates, metric, 1 if deviation is None else 2, mean, deviation, (0, 1), versus)


@pytest.fixture
def comparison(make_run):
    runs = tuple(make_run(name, {"all": [1, 2]}) for name in ("a", "b_%", "c"))
    failures = {("d|<x>", 7): "out of\nmemory", ("c", 2021): "stopped"}
    return Comparison("test", "toy", ("a", "b_%", "c", "d|<x>", "e"), "a", runs, failures)


@pytest.fixture
def cells():
    return [cell("a", 0.12341), cell("b_%", 0.3, 0.01, 0.0123), cell("c", 0.05, 0.049, difference=-0.07)]


def test_markdown_by_hand(comparison, cells):
    assert to_markdown(build_table(comparison, cells)).splitlines() == [
        "| model | parameters | NDCG@10 all |",
        "| --- | ---: | ---: |",
        "| a | 1,234 | <u>0.1234</u> |",
        "| b_% | 1,234 | **0.3000** ± 0.0123† |",
        "| c [^1] | 1,234 | 0.0500‡ |",
        rf"| d\|&lt;x&gt; [^2] | {MISSING} | {MISSING} |",
        f"| e [^3] | {MISSING} | {MISSING} |",
        "",
        "The best value of a column is bold, the second best underlined.  ",
        "Mean ± standard deviation over the seeds 2020; without ±, of one seed.  ",
        "† significantly better, ‡ significantly worse than a: paired randomisation test over users (their mean over "
        "seeds), Holm-corrected over the whole table, p < 0.05.  ",
        "The marks speak of these trained models, not of these methods: that takes two seeds of the row and of the "
        "baseline.",
        "",
        "[^1]: c, seed 2021: failed: stopped",
        r"[^2]: d\|&lt;x&gt;, seed 7: failed: out of memory",
        "[^3]: e: not run",
    ]


def test_latex_by_hand(comparison, cells):
    lines = to_latex(build_table(comparison, cells)).splitlines()
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


def test_csv_by_hand(comparison, cells):
    frame = to_frame(build_table(comparison, cells), cells)
    assert list(frame) == ["row", "parameters", "seeds", "ndcg@10 all", "ndcg@10 all sd", "ndcg@10 all verdict", "note"]
    assert frame["ndcg@10 all"].tolist()[:3] == [0.12341, 0.3, 0.05]
    assert frame["ndcg@10 all"].isna().tolist() == [False, False, False, True, True]
    assert frame["ndcg@10 all verdict"].tolist()[1:3] == ["better", "worse"]
    assert frame["seeds"].tolist() == [1, 1, 1, 0, 0]


def test_what_prints_alike_is_marked_alike(make_run):
    comparison = Comparison("t", "toy", ("a", "b", "c"), "a", tuple(make_run(n, {"all": [1]}) for n in "abc"))
    table = build_table(comparison, [cell("a", 0.50001), cell("b", 0.50002), cell("c", 0.4)])
    assert [row.cells[0].place for row in table.rows] == [1, 1, 2]


def test_less_is_better_where_it_is(make_run):
    comparison = Comparison("t", "toy", ("a", "b"), "a", tuple(make_run(n, {"all": [1]}) for n in "ab"))
    cells = [cell("a", 0.1, metric="giniindex@10"), cell("b", 0.2, metric="giniindex@10")]
    assert [row.cells[0].place for row in build_table(comparison, cells).rows] == [1, 2]


def test_a_single_row_is_no_winner(make_run):
    comparison = Comparison("t", "toy", ("a",), "a", (make_run("a", {"all": [1]}),))
    table = build_table(comparison, [cell("a", 0.1)])
    assert table.rows[0].cells[0].place == 0


def test_p_at_the_level_is_not_significant(make_run):
    comparison = Comparison("t", "toy", ("a", "b"), "a", tuple(make_run(n, {"all": [1]}) for n in "ab"))
    assert build_table(comparison, [cell("a", 0.1), cell("b", 0.2, 0.05)]).rows[1].cells[0].verdict == ""


def test_a_mark_needs_both_tests_where_both_could_be_made(make_run):
    comparison = Comparison("t", "toy", ("a", "b", "c"), "a", tuple(make_run(n, {"all": [1]}) for n in "abc"))
    cells = [cell("a", 0.1), cell("b", 0.2, 0.01, 0.1, p_methods=0.05), cell("c", 0.3, 0.01, 0.1, p_methods=0.049)]
    table = build_table(comparison, cells)
    assert [row.cells[0].verdict for row in table.rows] == ["", "", "better"]
    assert table.legend[2:] == (
        "† significantly better, ‡ significantly worse than a: paired randomisation test over users (their mean over "
        "seeds) and, beside it, a test that counts users and seeds; Holm-corrected over the whole table, p < 0.05 in "
        "both.",
    )


def test_rows_of_one_seed_are_told_by_name(make_run):
    comparison = Comparison("t", "toy", ("a", "b", "c"), "a", tuple(make_run(n, {"all": [1]}) for n in "abc"))
    cells = [cell("a", 0.1), cell("b", 0.2, 0.01), cell("c", 0.3, 0.01, 0.1, p_methods=0.01)]
    table = build_table(comparison, cells)
    assert [row.cells[0].verdict for row in table.rows] == ["", "better", "better"]
    assert "a test that counts users and seeds" in table.legend[2]
    assert table.legend[3:] == (
        "b: test over users alone; the marks speak of these trained models, not of these methods: that takes two "
        "seeds of the row and of the baseline.",
    )


def test_a_baseline_without_a_result_is_told(make_run):
    comparison = Comparison("t", "toy", ("a", "b"), "a", (make_run("b", {"all": [1]}),), {("a", 1): "broken"})
    table = build_table(comparison, [cell("b", 0.1)])
    assert table.legend[-1] == "Nothing is tested: the baseline, a, has no result."


def test_without_any_result_the_table_still_tells_why():
    comparison = Comparison("t", "toy", ("a",), "a", (), {("a", 1): "broken"})
    table = build_table(comparison, [])
    assert "a, seed 1: failed: broken" in to_markdown(table)
    assert r"\end{tabular}" in to_latex(table)
    assert to_frame(table, [])["note"].tolist() == ["a, seed 1: failed: broken"]


def test_costs_are_means_over_seeds(make_run):
    runs = (
        make_run("a", {"all": [1]}, seed=1, train_seconds=10.0, best_epoch=4),
        make_run("a", {"all": [1]}, seed=2, train_seconds=20.0, best_epoch=7),
    )
    frame = costs_frame(Comparison("t", "toy", ("a", "b"), "a", runs, {("b", 1): "broken"}))
    assert frame.loc[0, ["training_seconds", "best_epoch", "epochs_run"]].tolist() == [15.0, 6.5, 6.0]
    assert "| a | 2 | 1,234 | 15.0 | 0.50 | 6.0 | 6.5 | cpu, threads: 1 |" in costs_markdown(frame)
    assert f"| b | 0 |{f' {MISSING} |' * 6}" in costs_markdown(frame)


def test_writing_of_names_and_differences():
    assert [metric_title(name) for name in ("ndcg@10", "recall@5", "mrr@1")] == ["NDCG@10", "Recall@5", "MRR@1"]
    assert [signed(value) for value in (0.12345, -0.1, 0.0, -0.00001)] == [
        "+0.1235",
        "\N{MINUS SIGN}0.1000",
        "0.0000",
        "0.0000",
    ]
