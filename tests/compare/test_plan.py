"""Presets and plans: what they expand to, and what is said of a mistake."""

from pathlib import Path

import pytest

from recbole_session.cli import main
from recbole_session.compare.comparing import prepare
from recbole_session.compare.plan import parse_seeds, presets, read_plan, read_preset
from recbole_session.config.session_config import SessionConfig
from recbole_session.errors import InputError
from tests.conftest import WriteDataset, random_rows

PAPER_TABLE_2 = ["ST", "SSE", "TSA", "ST + SSE", "ST + TSA", "SSE + TSA", "ST + SSE + TSA"]


@pytest.fixture
def toy(write_dataset: WriteDataset, tmp_path: Path) -> dict[str, str]:
    """Where dataset toy lies, as keys."""
    write_dataset(random_rows())
    return {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), "num_negatives": 10}


def write_plan(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paper_has_the_rows_of_table_2_in_order(toy: dict[str, str]) -> None:
    plan = read_preset("paper")
    prepared = prepare(plan, "toy", [], toy)
    features = [f.split(" + ") for f in PAPER_TABLE_2]
    assert [row.config.resolved.get("session_features") for row in prepared.rows] == [None, [], None, [], *features]
    models = ["SASRec", "SessionSASRec", "BERT4Rec"] + ["SessionBERT4Rec"] * 8
    assert [row.config["model"] for row in prepared.rows] == models
    assert not any(row.config.resolved.get("tie_embeddings") for row in prepared.rows)
    assert plan.baseline == prepared.rows[3].name
    assert plan.seeds == (2020, 2021, 2022, 2023, 2024)


def test_rows_of_the_paper_have_size_and_training_in_common(toy: dict[str, str]) -> None:
    """RecBole's defaults for SASRec and BERT4Rec are others."""
    rows = prepare(read_preset("paper"), "toy", [], toy).rows
    for key in ("hidden_size", "n_layers", "n_heads", "inner_size", "learner", "epochs", "MAX_ITEM_LIST_LENGTH"):
        assert len({row.config.resolved[key] for row in rows}) == 1, key
    assert [row.config.resolved["train_batch_size"] for row in rows] == [2048, 64, 2048] + [64] * 8
    assert all("temporal_dim" not in row.keys for row in (rows[0], rows[2]))  # not read, so not given


def test_models_compares_the_two_models_with_their_own_defaults(toy: dict[str, str]) -> None:
    rows = prepare(read_preset("models"), "toy", [], toy).rows
    features = [[], ["ST"], ["SSE"], ["TSA"], ["GAP"], ["SSE", "GAP"]]
    features += [["ST", "SSE", "TSA"], ["ST", "SSE", "GAP"], ["ST", "SSE", "TSA", "GAP"]]
    found = [(row.config["model"], row.config.resolved["session_features"]) for row in rows]
    assert found == [(model, each) for model in ("SessionBERT4Rec", "SessionSASRec") for each in features]
    assert [row.name for row in rows] == [f"{model} [{', '.join(each)}]" for model, each in found]
    for row in rows:
        defaults = SessionConfig(row.config["model"], "toy").resolved
        others = defaults.keys() - {*toy, "session_features", "valid_candidates"}
        assert all(row.config.resolved[key] == defaults[key] for key in others)


@pytest.mark.parametrize(
    ("preset", "key", "values", "feature"),
    [
        ("segments", "max_session_segments", [2, 3, 4, 5], "SSE"),
        ("temporal", "temporal_dim", [8, 16, 32, 64], "TSA"),
    ],
)
def test_sweeps_of_figure_2(preset: str, key: str, values: list[int], feature: str, toy: dict[str, str]) -> None:
    plan = read_preset(preset)
    rows = prepare(plan, "toy", [], toy).rows
    assert plan.sweep == key
    swept = {row.name for row in plan.rows if key in row.keys}
    assert [row.config.resolved[key] for row in rows if row.name in swept] == values
    assert all(row.config.resolved["session_features"] == [feature] for row in rows if row.name in swept)
    assert [row.name for row in rows if row.name not in swept] == [plan.baseline] == ["SessionBERT4Rec []"]


@pytest.mark.parametrize("preset", list(presets()))
def test_every_preset_resolves_with_the_paper_settings(preset: str, toy: dict[str, str]) -> None:
    file = Path(__file__).resolve().parents[2] / "configs" / "paper" / "ml-1m.yaml"
    for row in prepare(read_preset(preset), "toy", [str(file)], toy).rows:
        assert row.config.resolved["hidden_size"] == 256
        assert row.config.resolved["stopping_step"] == 400


def test_precedence(tmp_path: Path, toy: dict[str, str]) -> None:
    """Defaults < files < the plan's keys < a run's own < the command line."""
    (tmp_path / "a.yaml").write_text("hidden_size: 1\nn_layers: 1\nepochs: 1\nseed: 5\nlearning_rate: 0.1\n")
    plan = read_plan(
        write_plan(
            tmp_path,
            "defaults_of: SessionBERT4Rec\nkeys: {n_layers: 2, epochs: 2, n_heads: 1, learning_rate: 0.2}\nruns:\n"
            "- {model: SASRec, epochs: 3, learning_rate: 0.3}\n",
        )
    )
    (row,) = prepare(plan, "toy", [str(tmp_path / "a.yaml")], {**toy, "learning_rate": 0.4}).rows
    keys = ("inner_size", "hidden_size", "n_layers", "epochs", "learning_rate")
    assert [row.config.resolved[key] for key in keys] == [256, 1, 2, 3, 0.4]


def test_names_of_runs_without_one(tmp_path: Path) -> None:
    text = "runs:\n- {model: SASRec}\n- {model: SessionBERT4Rec, session_features: [ST], hidden_size: 8}\n"
    plan = read_plan(write_plan(tmp_path, text))
    assert [row.name for row in plan.rows] == ["SASRec", "SessionBERT4Rec [ST], hidden_size = 8"]
    assert plan.baseline == "SASRec"


def test_seeds() -> None:
    assert parse_seeds(3) == (2020, 2021, 2022)
    assert parse_seeds([7, 1]) == (7, 1)
    for value in (0, -1, True, 1.5, "3", [], [1, 1], [-1], [1.5], [True], None):
        with pytest.raises(InputError, match="seeds is "):
            parse_seeds(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "runs is missing"),
        ("- 1", "must hold 'key: value' lines"),
        ("runs: [", "line 1: not valid YAML"),
        ("runs: {model: SASRec}", "runs is {'model': 'SASRec'}; write a list"),
        ("run: []", r"key 'run' is unknown; did you mean 'runs'\?"),
        ("runs: []", r"runs is \[\]"),
        ("runs: [{model: SASRec}, 3]", "mine.yaml, run 2 is 3"),
        ("runs: [{hidden_size: 3}]", "run 1 names no model"),
        ("runs: [{model: SASRec, name: 3}]", "run 1: name is 3"),
        ("runs: [{model: SASRec}, {model: SASRec}]", "run 2 is named 'SASRec', as run 1 is"),
        ("runs: [{model: SASRec, seed: 3}]", "run 1: seed cannot be given here; give seeds for all"),
        ("runs: [{model: SASRec, dataset: x}]", "run 1: dataset cannot be given here; give --dataset"),
        ("keys: 3\nruns: [{model: SASRec}]", "keys is 3"),
        ("keys: {seed: 3}\nruns: [{model: SASRec}]", "keys: seed cannot be given here"),
        (
            "baseline: SASrec\nruns: [{model: SASRec}]",
            r"is 'SASrec', which is not a row of the comparison; did you mean 'SASRec'\?",
        ),
        ("seeds: 0\nruns: [{model: SASRec}]", "mine.yaml: seeds is 0"),
        ("sweep: hidden_size\nruns: [{model: SASRec}]", "sweep is 'hidden_size', which no run sets"),
        ("sweep: loss_type\nruns: [{model: SASRec, loss_type: CE}]", "run 1: loss_type is 'CE'; allowed in a sweep"),
        ("sweep: [a]\nruns: [{model: SASRec}]", "sweep is .*; allowed: one name"),
        ("runs: [{model: SASRec, model: X}]", "'model' is written twice"),
    ],
)
def test_mistakes_in_a_plan(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_plan(write_plan(tmp_path, text))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: [{model: SASRec}, {model: SASrec}]", r"mine.yaml, run 2: model 'SASrec' is unknown; did you mean"),
        ("runs: [{model: SASRec, hiden_size: 3}]", r"run 1: key 'hiden_size' is unknown; did you mean 'hidden_size'\?"),
        ("runs: [{model: SASRec, epochs: x}]", "run 1: epochs is 'x'"),
        ("runs: [{model: SASRec, temporal_dim: 8}]", "run 1: temporal_dim is given, but SASRec does not read it"),
        ("runs: [{model: SASRec}, {model: Pop, topk: [10, 5]}]", r"run 2: topk is \[10, 5\], and \[10\] in run 1"),
        (
            "runs: [{model: SASRec}, {model: Pop, eval_args: {split: {SS: valid_and_test}}}]",
            r"run 2: eval_args is .*'SS'.*, and .*'LS'.* in run 1; runs of one table",
        ),
        (
            "runs: [{model: Pop}, {model: SASRec, MAX_ITEM_LIST_LENGTH: 9, session_gap: 60}]",
            r"run 2: session_gap is 60, and 86400 in run 1; runs of one table",
        ),
        ("runs: [{model: SASRec}, {model: SASRec, name: b, worker: 1}]", "rows 'SASRec' and 'b' are the same run"),
        ("defaults_of: SASRec\nruns: [{model: SASRec}]", "defaults_of is 'SASRec'"),
        ("keys: {epochs: x}\nruns: [{model: SASRec}]", "^epochs is 'x'"),
    ],
)
def test_mistakes_that_show_when_rows_are_resolved(
    text: str, message: str, tmp_path: Path, toy: dict[str, str]
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(read_plan(write_plan(tmp_path, text)), "toy", [], toy)
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --preset (one of models, paper, segments, temporal) or --plan=FILE"),
        (["--preset=paper", "--plan=x.yaml"], "give either --preset"),
        (["--preset=papr"], "preset 'papr' is unknown; did you mean 'paper'?"),
        (["--plan=nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--preset=paper", "--sedes=3"], "option --sedes is unknown; did you mean 'seeds'?"),
        (["--preset=paper", "--epoch=3"], "option --epoch is unknown; did you mean 'epochs'?"),
        (["--preset=paper", "--epochs=x"], "epochs is 'x'; allowed: a whole number"),
        (["--preset=paper", "--model=SASRec"], "--model cannot be given to a comparison"),
        (["--preset=paper", "--seed=3"], "--seed cannot be given to a comparison: give --seeds"),
        (["--preset=paper", "--seeds=x"], "seeds is 'x'"),
        (["--preset=paper", "--baseline=ST"], "baseline is 'ST', which is not a row of the comparison"),
        (["--preset=paper", "--workers=0"], "workers is 0"),
        (["--preset=paper", "--name=../x"], "name is '../x'"),
        (["--preset=paper", "--reg_weight=0.1"], "--reg_weight is given, but no model of this comparison reads it"),
        (["--preset=segments", "--max_session_segments=3"], "leave --max_session_segments out"),
        (["--preset=paper", "stray"], "argument 'stray' is not understood"),
    ],
)
def test_mistakes_on_the_command_line(
    options: list[str],
    message: str,
    toy: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.compare.comparisons import install_report

    monkeypatch.setitem(__import__("sys").modules, "recbole_session.report.report", None)
    install_report()
    assert main(["compare", "--dataset=toy", *options, *(f"--{key}={value}" for key, value in toy.items())]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "saved").exists()


def test_a_missing_dataset_is_told_before_anything_is_written(tmp_path: Path, toy: dict[str, str]) -> None:
    with pytest.raises(InputError, match="dataset 'none': there is no "):
        prepare(read_preset("paper"), "none", [], toy)
    assert not (tmp_path / "saved").exists()
