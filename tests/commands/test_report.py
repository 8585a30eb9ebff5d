import json
import os

import pytest
import yaml

from recbole_session.cli import main
from recbole_session.compare.runs import read_comparison
from recbole_session.errors import InputError
from recbole_session.report.grouping import group_runs


def write_comparison(folder, finished, **plan_keys):
    entries = [{"row": r.name, "seed": r.seed, "folder": os.path.relpath(r.folder, folder)} for r in finished]
    entries += [{"row": "c", "seed": 1, "failure": "broken"}, {"row": "c", "seed": 2, "folder": None}]
    folder.mkdir(parents=True)
    (folder / "runs.json").write_text(json.dumps(entries))
    keys = {"model": "SASRec", "epochs": 3}
    plan = {"baseline": "a", "seeds": [2020], "keys": keys, "runs": [{"name": name} for name in "abc"]}
    (folder / "comparison.yaml").write_text(yaml.safe_dump(plan | plan_keys))


@pytest.fixture
def folder(make_run, tmp_path):
    place = tmp_path / "toy" / "comparison-mine"
    write_comparison(place, [make_run("a", {"all": [1, 2]}), make_run("b", {"all": [2, 30]})])
    return place


def test_a_comparison_is_read_back(folder):
    comparison = read_comparison(folder)
    assert (comparison.name, comparison.dataset, comparison.baseline) == ("mine", "toy", "a")
    assert comparison.names == ("a", "b", "c")
    assert [(run.name, run.seed) for run in comparison.runs] == [("a", 2020), ("b", 2020)]
    assert comparison.failures == {("c", 1): "broken"}


def test_a_sweep_is_read_back(make_run, tmp_path):
    runs = [{"name": "m=1", "m": 1}, {"name": "m=5", "m": 5}, {"name": "c"}]
    finished = [make_run("m=1", {"all": [1]})]
    write_comparison(tmp_path / "toy" / "comparison-s", finished, runs=runs, sweep="m", baseline="c")
    comparison = read_comparison(tmp_path / "toy" / "comparison-s")
    assert (comparison.sweep_key, comparison.sweep_values) == ("m", {"m=1": 1, "m=5": 5})


def test_the_report_of_a_comparison_is_made_in_its_folder(folder, capsys):
    assert main(["report", str(folder)]) == 0
    assert "| b | 1,234 |" in capsys.readouterr().out
    assert "epochs: 3" in (folder / "report.html").read_text(encoding="utf-8")


def test_safe_csv(make_run, tmp_path, capsys):
    place = tmp_path / "toy" / "comparison-mine"
    runs = [{"name": name} for name in ("a", "=b", "c")]
    write_comparison(place, [make_run("a", {"all": [1, 2]}), make_run("=b", {"all": [2, 30]})], runs=runs)
    for option, name in ((), "=b"), (["--safe_csv"], "'=b"):
        assert main(["report", str(place), *option]) == 0
        for file in ("table.csv", "significance.csv", "costs.csv"):
            assert f"\n{name}," in (place / file).read_text(encoding="utf-8")


def test_another_baseline_and_another_folder(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--baseline=b", f"--output={tmp_path / 'out'}"]) == 0
    assert "worse than b" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert not (folder / "table.md").exists()


def test_run_folders_are_grouped(make_run, tmp_path, monkeypatch, capsys):
    ranks = {"all": [1, 20]}
    runs = [
        make_run("", ranks, config={"session_features": ["ST"], "learning_rate": 0.1}),
        make_run("", ranks, config={"session_features": ["ST"], "learning_rate": 0.2}),
        make_run("", ranks, config={"session_features": [], "learning_rate": 0.1}),
        make_run("", ranks, seed=7, config={"session_features": ["ST"], "learning_rate": 0.1, "seed": 7}),
        make_run("", ranks, config={"model": "Pop", "session_features": None}),
    ]
    comparison = group_runs([run.folder for run in runs])
    st1, st2 = "SessionBERT4Rec [ST], learning_rate=0.1", "SessionBERT4Rec [ST], learning_rate=0.2"
    assert comparison.names == (st1, st2, "SessionBERT4Rec []", "Pop")
    assert [run.seed for run in comparison.runs_of(st1)] == [7, 2020]
    assert comparison.baseline == "SessionBERT4Rec []"
    assert group_runs([run.folder for run in runs], "Pop").baseline == "Pop"
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(run.folder) for run in runs)]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "other"}, "compare runs on one dataset"),
        ({}, "are the same run"),
    ],
)
def test_runs_that_do_not_go_together(make_run, change, message):
    runs = [make_run("", {"all": [1]}), make_run("", {"all": [1]}, **change)]
    with pytest.raises(InputError, match=message):
        group_runs([run.folder for run in runs])


def test_mistakes_are_told_and_nothing_is_written(folder, make_run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = str(make_run("", {"all": [1]}).folder)
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "holds no finished run"),
        ([str(folder), run], "name it alone"),
        ([str(folder), "--baseline=z"], "baseline is 'z', which is not a row of the comparison; allowed: a, b, c"),
        ([run, "--baseline=z"], "baseline is 'z'"),
        ([run, f"--output={folder / 'runs.json'}"], "which is a file"),
    ):
        assert main(["report", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("file", ["runs.json", "comparison.yaml"])
@pytest.mark.parametrize("content", [None, "{", "[1]", "{}", "[]", "- a"])
def test_a_damaged_comparison_is_told(folder, file, content):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    if (file, content) == ("runs.json", "[]"):
        assert read_comparison(folder).runs == ()  # as before the first run
        return
    with pytest.raises(InputError):
        read_comparison(folder)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (0, {"row": "z"}, "row 'z', seed 2020 is not in comparison.yaml"),
        (1, {"row": "a"}, "row 'a', seed 2020 is there twice"),
        (0, {"seed": 7}, r"seed is '2020', and '7' in runs\.json"),
        (0, {"seed": "7"}, r"\[0\]\.seed is '7'"),
        (0, {"folder": 3}, "folder is 3"),
    ],
)
def test_entries_that_do_not_go_together_are_refused(folder, place, change, message):
    entries = json.loads((folder / "runs.json").read_text())
    entries[place] |= change
    (folder / "runs.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=message):
        read_comparison(folder)
