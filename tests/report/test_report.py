import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.report.analysis import Analysis
from recbole_session.report.headings import MISSING
from recbole_session.report.report import write_report
from recbole_session.report.user_values import read_user_values
from recbole_session.run.run import Run
from recbole_session.run.training import run_session
from tests.conftest import TINY_MODEL
from tests.inference.conftest import ROWS, write_rows
from tests.report.conftest import write_contexts

FILES = {
    "table.md", "table.tex", "table.csv", "significance.csv", "slices.csv", "costs.md", "costs.csv", "report.md",
    "report.html", "examples.csv",
}  # fmt: skip
VOID = {"meta", "br"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two rows, two seeds, tiny models and a tiny dataset; really trained."""
    folder = tmp_path_factory.mktemp("compare")
    write_rows(folder / "data", ROWS)
    runs = []
    for name, features in (("plain", []), ("with <TSA> & more", ["TSA"])):
        for seed in (1, 2):
            keys = {
                **TINY_MODEL, "data_path": str(folder / "data"), "checkpoint_dir": str(folder / "saved"), "epochs": 2,
                "session_features": features, "seed": seed, "num_negatives": 10, "show_progress": False,
            }  # fmt: skip
            runs.append(Run(run_session("SessionBERT4Rec", "toy", config_dict=keys)["run_folder"], name))
    names = ("plain", "with <TSA> & more", "SASRec")
    return Comparison("test", "toy", names, "plain", tuple(runs), {("SASRec", 1): "out of memory <here>"})


class Checker(HTMLParser):
    """Notes what a page opens and does not close, its ids, and what it links to."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "src", "xlink:href"):
                self.links.append(value)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag


def check_page(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    for link in checker.links:  # to its own parts and to run folders, never to a network
        assert link[1:] in checker.ids if link.startswith("#") else ":" not in link and not link.startswith("/")
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    return checker


def data_of(page):
    """What the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page).group(1))


def test_the_values_of_the_ranks_are_those_of_the_result(trained):
    for run in trained.runs:
        values = read_user_values(replace(trained, runs=(run,)))
        for place, (candidates, metric) in enumerate(values.columns):
            expected = run.result["test"][candidates][metric]
            assert values.mean_of(run.name)[:, place].mean() == pytest.approx(expected, abs=1e-12)


def test_a_report_is_whole(trained, tmp_path):
    written = write_report(replace(trained, settings={"preset": "<none>"}), tmp_path / "new" / "report")
    assert {path.name for path in written} == FILES == {path.name for path in (tmp_path / "new" / "report").iterdir()}
    page = (tmp_path / "new" / "report" / "report.html").read_text(encoding="utf-8")
    checker = check_page(page)
    for place in ("table", "explore", "slices", "curves", "costs", "reading", "settings", "note1"):
        assert place in checker.ids
    folders = [(tmp_path / "new" / "report" / link).resolve() for link in checker.links if not link.startswith("#")]
    assert folders == [run.folder.resolve() for run in trained.runs]
    assert "with &lt;TSA&gt; &amp; more" in page
    assert "out of memory &lt;here&gt;" in page
    assert data_of(page)["curves"][0]["points"][-1][0] == 2
    assert len(data_of(page)["lines"]) == 2 * 6 * (
        1 + len(pd.read_csv(tmp_path / "new" / "report" / "slices.csv")) // 12
    )
    text = (tmp_path / "new" / "report" / "report.md").read_text(encoding="utf-8")
    for part in ("## Experimental setting", "```yaml\n", "## Dataset statistics", "## Evaluation results",
                 "## Where the gain comes from", "## Hyper-parameters", "session_features=[TSA]"):  # fmt: skip
        assert part in text
    assert str(tmp_path) not in text
    slices = pd.read_csv(tmp_path / "new" / "report" / "slices.csv")
    assert set(slices["fact"]) == {"opens_session", "gap", "sessions", "items", "popularity"}
    assert len(set(slices.groupby("fact")["users"].sum())) == 1


def test_the_same_runs_give_the_same_bytes(trained, tmp_path):
    for name in ("one", "two"):
        order = trained.runs if name == "one" else trained.runs[::-1]
        write_report(replace(trained, runs=order), tmp_path / name)
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_seconds_stay_out_of_the_files_that_must_not_change(trained, tmp_path):
    slower = [Run(run.folder, run.name) for run in trained.runs]
    for run in slower:
        run.result.update(train_seconds=1e6, eval_seconds=1e6)
    write_report(trained, tmp_path / "one")
    write_report(replace(trained, runs=tuple(slower)), tmp_path / "two")
    differing = {f for f in FILES if (tmp_path / "one" / f).read_bytes() != (tmp_path / "two" / f).read_bytes()}
    assert differing == {"costs.md", "costs.csv", "report.html"}


def test_rows_may_choose_their_epoch_among_different_candidates(make_run, tmp_path):
    """As SessionSASRec and SessionBERT4Rec do by default."""
    runs = tuple(
        make_run(name, {"all": [1, 2, 30]}, config={"valid_metric": "NDCG@10", "valid_candidates": candidates})
        for name, candidates in (("a", "all"), ("b", "random"))
    )
    write_report(Comparison("test", "toy", ("a", "b"), "a", runs), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "Choice of the epoch" not in text
    assert "valid_candidates=random" in text


def test_without_the_dataset_the_report_says_why_there_are_no_slices(make_run, tmp_path):
    runs = tuple(make_run(name, {"all": [1, 2, 30]}, config={"data_path": "nowhere"}) for name in ("a", "b"))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "slices.csv").write_text("old")
    written = write_report(Comparison("test", "toy", ("a", "b"), "a", runs), tmp_path / "report")
    assert {path.name for path in written} == FILES - {"slices.csv", "examples.csv"}
    assert not (tmp_path / "report" / "slices.csv").exists()
    assert "there is no nowhere" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    check_page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))


def test_a_comparison_of_failures_has_a_report_too(tmp_path):
    comparison = Comparison("test", "toy", ("a", "b"), "a", (), {("a", 1): "broken", ("b", 1): "broken"})
    write_report(comparison, tmp_path)
    assert "a, seed 1: failed: broken" in (tmp_path / "table.md").read_text(encoding="utf-8")
    check_page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_a_sweep_is_drawn_over_its_key(make_run, tmp_path):
    runs = tuple(make_run(name, {"all": ranks}) for name, ranks in (("a", [1, 30]), ("m=1", [2, 3]), ("m=5", [4, 30])))
    comparison = Comparison(
        "segments", "toy", ("a", "m=1", "m=5"), "a", runs, {}, "max_session_segments", {"m=1": 1, "m=5": 5}
    )
    write_report(comparison, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "sweep" in check_page(page).ids
    assert data_of(page)["sweep"] == {"key": "max_session_segments", "values": {"m=1": 1, "m=5": 5}}


def test_an_audit_of_the_context_is_reported(make_run, tmp_path):
    runs = tuple(make_run(name, {"all": ranks}) for name, ranks in (("a", [30] * 5), ("b", [1] * 5)))
    for run in runs:
        for context in ("inferred", "withheld"):
            (run.folder / f"ranks-{context}.csv").write_bytes((run.folder / "ranks.csv").read_bytes())
        write_contexts(run.folder)
    written = write_report(Comparison("test", "toy", ("a", "b"), "a", runs), tmp_path)
    assert "context.csv" in {path.name for path in written}
    assert "context" in check_page((tmp_path / "report.html").read_text(encoding="utf-8")).ids
    assert "| b | 1.0000 | 1.0000 | 1.0000 | +1.0000 | +1.0000 | +1.0000 | 100% | 100% |" in (
        tmp_path / "report.md"
    ).read_text(encoding="utf-8")


def test_the_summary_says_when_seeds_disagree(make_run):
    runs = [make_run("a", {"all": [20] * 40}, seed=seed) for seed in (1, 2)]
    runs += [make_run("b", {"all": [1] * 40}, seed=1), make_run("b", {"all": [30] * 40}, seed=2)]
    sentences = Analysis(Comparison("test", "toy", ("a", "b"), "a", tuple(runs))).summary
    assert "not significantly different (Holm-corrected p < 0.001 over users, p = 1.000 over users and" in sentences[0]
    assert "0 are significantly better and 0 significantly worse" in sentences[1]
    assert sentences[1].endswith("the other 2 could be chance with these 40 users and these seeds.")
    assert sentences[2].startswith("2 of these are significant over users, but not once the seeds are counted too")
    assert len(sentences) == 3


def test_the_summary_says_when_a_seed_falls_behind(make_run):
    """Five seeds, four of them far ahead: enough for both tests, although the fifth is behind."""
    hits = {"a": (4, 4, 4, 4, 20), "b": (32, 32, 32, 32, 18)}
    runs = [
        make_run(name, {"all": [1] * n + [20] * (40 - n)}, seed=seed)
        for name, counts in hits.items()
        for seed, n in enumerate(counts)
    ]
    sentences = Analysis(Comparison("test", "toy", ("a", "b"), "a", tuple(runs))).summary
    assert "significantly more (Holm-corrected p < 0.001 over users, p = 0.00" in sentences[0]
    assert "2 are significantly better and 0 significantly worse" in sentences[1]
    assert sentences[2].startswith("2 of the significant differences do not hold in every seed")
    assert len(sentences) == 3


def test_the_summary_says_that_one_seed_speaks_of_models(make_run):
    runs = (make_run("a", {"all": [20] * 40}), make_run("b", {"all": [1] * 40}))
    sentences = Analysis(Comparison("test", "toy", ("a", "b"), "a", runs)).summary
    assert "significantly more (Holm-corrected p < 0.001 over users);" in sentences[0]
    assert sentences[1].endswith("could be chance with these 40 users.")
    assert sentences[2].startswith("2 of the significant differences compare these trained models and not")


def test_the_differences_show_both_tests_and_a_dash_for_none(make_run, tmp_path):
    runs = [make_run(name, {"all": [rank] * 40}, seed=seed) for name, rank in (("a", 20), ("b", 1)) for seed in (1, 2)]
    comparison = Comparison("test", "toy", ("a", "b", "c"), "a", (*runs, make_run("c", {"all": [1] * 40}, seed=1)))
    write_report(comparison, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| p, users | p, users (Holm) | p, users and seeds (Holm) |" in text
    assert "| b | +1.0000 | +1.0000 to +1.0000 | < 0.001 | < 0.001 | < 0.001 |" in text
    assert f"| c | +1.0000 | +1.0000 to +1.0000 | < 0.001 | < 0.001 | {MISSING} |" in text
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    check_page(page)
    texts = {line["row"]: line["texts"] for line in data_of(page)["lines"] if line["metric"] == "ndcg@10"}
    assert (texts["b"]["p_methods_holm"], "p_methods_holm" in texts["c"]) == ("< 0.001", False)
    assert "c: test over users alone; the marks compare these trained models;" in page


def test_epochs_that_a_time_limit_made_differ_are_marked_at_the_deviation(make_run, tmp_path):
    config = {"train_time_limit": 60}
    runs = [make_run("a", {"all": [1, 20]}, seed=seed, epochs_run=6, config=config) for seed in (1, 2)]
    runs += [make_run("b", {"all": [1, 2]}, seed=seed, epochs_run=4 + seed, config=config) for seed in (1, 2)]
    runs += [make_run("c", {"all": [1, 2]}, seed=seed, epochs_run=4 + seed) for seed in (1, 2)]
    write_report(Comparison("test", "toy", ("a", "b", "c"), "a", tuple(runs)), tmp_path)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line.count("± 0.0000§") for line in lines[2:5]] == [0, 2, 0]
    sentence = "§ train_time_limit stopped the seeds after different numbers of epochs, which ± includes: b ran 5 to 6"
    assert lines[8].startswith(sentence)
    assert (tmp_path / "table.tex").read_text(encoding="utf-8").count(r"$\pm$ 0.0000$^\S$") == 2
    assert "5 to 6 epochs, stopped by train_time_limit" in (tmp_path / "report.html").read_text(encoding="utf-8")
