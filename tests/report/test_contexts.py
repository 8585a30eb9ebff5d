import pandas as pd
import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.tidy import tidy_table
from recbole_session.report.user_values import read_user_values
from tests.report.conftest import write_contexts


def audit(run, **ranks):
    for context, values in ranks.items():
        frame = pd.read_csv(run.folder / "ranks.csv")
        frame["rank_all"] = values
        frame.to_csv(run.folder / f"ranks-{context}.csv", index=False)
    write_contexts(run.folder)
    return run


def compare(*runs):
    return Comparison("test", "toy", tuple(dict.fromkeys(run.name for run in runs)), "base", tuple(runs))


def contexts_of(comparison):
    table = tidy_table(comparison, read_user_values(comparison))
    table = table[(table["context"] != "") & (table["metric"] == "recall@10")]
    return table.pivot(index="row", columns="context")  # noqa: PD010


def test_without_an_audit_there_are_no_contexts(make_run):
    assert contexts_of(compare(make_run("base", {"all": [1, 20]}))).empty


def test_gains_by_hand(make_run):
    base = audit(make_run("base", {"all": [20] * 8}), inferred=[20] * 8, withheld=[1] * 2 + [20] * 6)
    full = audit(make_run("full", {"all": [1] * 8}), inferred=[1] * 6 + [20] * 2, withheld=[1] * 4 + [20] * 4)
    table = contexts_of(compare(base, full))
    order = ["told", "inferred", "withheld"]
    assert table.loc["base", "mean"][order].tolist() == [0, 0, 0.25]
    assert table.loc["full", "mean"][order].tolist() == [1, 0.75, 0.5]
    assert table.loc["full", "difference"][order].tolist() == [1, 0.75, 0.25]
    assert table.loc["full", "kept"][order[1:]].tolist() == [0.75, 0.25]
    low, high = table.loc["full", "difference_ci_low"], table.loc["full", "difference_ci_high"]
    assert low["told"] == high["told"] == 1
    assert 0 < low["inferred"] < 0.75 < high["inferred"] <= 1
    assert table.loc["base", "difference"].isna().all()


def test_no_share_of_a_gain_that_may_be_zero(make_run):
    base = audit(make_run("base", {"all": [20, 1, 20, 1]}), inferred=[20] * 4, withheld=[20] * 4)
    other = audit(make_run("other", {"all": [1, 20, 1, 1]}), inferred=[1] * 4, withheld=[1] * 4)
    table = contexts_of(compare(base, other))
    assert table.loc["other", ("difference", "told")] == 0.25
    assert table.loc["other", "kept"].isna().all()


def test_runs_without_an_audit_are_left_out(make_run):
    base = audit(make_run("base", {"all": [1, 20]}), inferred=[1, 20], withheld=[1, 20])
    table = contexts_of(compare(base, make_run("other", {"all": [1, 20]})))
    assert table.index.tolist() == ["base"]
    assert table["difference"].isna().all(axis=None)


def test_an_audit_of_other_targets_is_refused(make_run):
    run = audit(make_run("base", {"all": [1, 20]}), inferred=[1, 20], withheld=[1, 20])
    path = run.folder / "ranks-withheld.csv"
    path.write_text(path.read_text().replace("i1", "i7"))
    with pytest.raises(InputError, match=r"ranks-withheld\.csv has other"):
        contexts_of(compare(run))
