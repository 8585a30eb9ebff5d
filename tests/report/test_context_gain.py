import pandas as pd
import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.context_gain import audited, context_frame


def audit(run, **ranks):
    for context, values in ranks.items():
        frame = pd.read_csv(run.folder / "ranks.csv")
        frame["rank_all"] = values
        frame.to_csv(run.folder / f"ranks-{context}.csv", index=False)
    return run


def compare(*runs):
    return Comparison("test", "toy", tuple(dict.fromkeys(run.name for run in runs)), "base", tuple(runs))


def test_without_an_audit_there_is_nothing_to_tell(make_run):
    assert context_frame(compare(make_run("base", {"all": [1, 20]}))) is None


def test_gains_by_hand(make_run):
    base = audit(make_run("base", {"all": [20] * 8}), inferred=[20] * 8, withheld=[1] * 2 + [20] * 6)
    full = audit(make_run("full", {"all": [1] * 8}), inferred=[1] * 6 + [20] * 2, withheld=[1] * 4 + [20] * 4)
    frame = context_frame(compare(base, full))
    recall = frame[frame["metric"] == "recall@10"].set_index("row")
    assert recall.loc["base", ["told", "inferred", "withheld"]].tolist() == [0, 0, 0.25]
    assert recall.loc["full", ["told", "inferred", "withheld"]].tolist() == [1, 0.75, 0.5]
    assert recall.loc["full", ["gain_told", "gain_inferred", "gain_withheld"]].tolist() == [1, 0.75, 0.25]
    assert recall.loc["full", ["kept_inferred", "kept_withheld"]].tolist() == [0.75, 0.25]
    assert recall.loc["full", "gain_told_low"] == recall.loc["full", "gain_told_high"] == 1
    assert 0 < recall.loc["full", "gain_inferred_low"] < 0.75 < recall.loc["full", "gain_inferred_high"] <= 1
    assert pd.isna(recall.loc["base", "gain_told"])


def test_no_share_of_a_gain_that_may_be_none(make_run):
    base = audit(make_run("base", {"all": [20, 1, 20, 1]}), inferred=[20] * 4, withheld=[20] * 4)
    other = audit(make_run("other", {"all": [1, 20, 1, 1]}), inferred=[1] * 4, withheld=[1] * 4)
    frame = context_frame(compare(base, other)).set_index("row")
    assert frame.loc["other", "gain_told"].iloc[0] == 0.25
    assert frame.loc["other", "kept_inferred"].isna().all()


def test_runs_without_an_audit_are_left_out(make_run):
    base = audit(make_run("base", {"all": [1, 20]}), inferred=[1, 20], withheld=[1, 20])
    other = make_run("other", {"all": [1, 20]})
    assert audited(compare(base, other)).runs == (base,)
    frame = context_frame(compare(base, other))
    assert set(frame["row"]) == {"base"}
    assert "gain_told" not in frame


def test_an_audit_of_other_targets_is_refused(make_run):
    run = audit(make_run("base", {"all": [1, 20]}), inferred=[1, 20], withheld=[1, 20])
    path = run.folder / "ranks-withheld.csv"
    path.write_text(path.read_text().replace("i1", "i7"))
    with pytest.raises(InputError, match=r"ranks-withheld\.csv has other"):
        context_frame(compare(run))
