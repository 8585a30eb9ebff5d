import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.data.dataset import SessionDataset
from recbole_session.report.analysis import Analysis
from recbole_session.report.report import write_report
from recbole_session.report.targets import find_examples
from tests.conftest import DAY

# Users in another order than their ids; the target of b opens a session.
ROWS = [
    ("c", "i1", 1), ("c", "i2", 2), ("c", "i3", 3), ("c", "i4", 4),
    ("a", "i2", 1), ("a", "i3", 2), ("a", "i1", 3),
    ("b", "i4", 1), ("b", "i2", 2), ("b", "i5", 3), ("b", "i6", 3 + 2 * DAY),
    ("d", "i1", 1), ("d", "i5", 2), ("d", "i6", 3),
]  # fmt: skip
TARGETS = [("c", "i4"), ("a", "i1"), ("b", "i6"), ("d", "i6")]
HOSTILE = '<b>Tom & "Jerry" | $1</b>'


def comparison_of(make_run, before, after, **keys):
    users, items = zip(*TARGETS, strict=True)
    runs = [make_run(name, {"all": ranks}, users=users, items=items, **keys)
            for name, ranks in (("base", before), ("best", after))]  # fmt: skip
    return Comparison("x", "toy", ("base", "best"), "base", tuple(runs))


def test_the_largest_changes_of_rank_by_hand(make_run, write_dataset, build_config):
    items = write_dataset(ROWS).with_suffix(".item")
    items.write_text(f"item_id:token\ttitle:token_seq\ni2\tTwo\ni4\t{HOSTILE}\n", encoding="utf-8")
    dataset = SessionDataset(build_config("SASRec"))
    dataset.build()
    # Ratios: c 8 times better, a 4 times worse, b 2 times better, d the same.
    comparison = comparison_of(make_run, [80, 1, 6, 7], [10, 4, 3, 7])
    found = find_examples(comparison, dataset, "best", ("all", "ndcg@10"))
    assert found.to_numpy().tolist() == [
        ["c", "i1 → Two → i3", HOSTILE, False, 80, 10],
        ["b", f"{HOSTILE} → Two → i5", "i6", True, 6, 3],
        ["a", "Two → i3", "i1", False, 1, 4],
    ]


def test_they_are_shown_wherever_the_report_is_written(make_run, write_dataset, build_config, tmp_path):
    items = write_dataset(ROWS).with_suffix(".item")
    items.write_text(f"item_id:token\ttitle:token_seq\ni4\t{HOSTILE}\n", encoding="utf-8")
    comparison = comparison_of(make_run, [80, 1, 6, 7], [10, 4, 3, 7])
    for run in comparison.runs:
        run.dataset = lambda data_path: (dataset := SessionDataset(build_config("SASRec"))).build() and dataset
    write_report(comparison, tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "examples.csv")
    assert table["target"].tolist() == [HOSTILE, "i6", "i1"]
    assert r'| &lt;b&gt;Tom &amp; "Jerry" \| \$1&lt;/b&gt; | later | 80 | 10 |' in (
        tmp_path / "report" / "report.md"
    ).read_text(encoding="utf-8")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Tom &amp; &#34;Jerry&#34; | $1&lt;/b&gt;" in page
    assert HOSTILE not in page
    del comparison.runs[0].dataset  # the data is not where the configuration says
    assert Analysis(comparison).examples.empty
    write_report(comparison, tmp_path / "report")
    assert not (tmp_path / "report" / "examples.csv").exists()
