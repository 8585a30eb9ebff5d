"""Search spaces: the paper's, and what is said of a mistake."""

import math
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

from recbole_session.config.session_config import SessionConfig  # noqa: E402
from recbole_session.errors import InputError  # noqa: E402
from recbole_session.tune.search_space import (  # noqa: E402
    PAPER_SPACE,
    check_space,
    decode,
    grid_of,
    read_space,
    suggest,
)

# Section 4.1.3 of the paper.
PAPER = {
    "hidden_size": (8, 16, 32, 64, 128, 256),
    "mask_ratio": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    "n_heads": (1, 2, 4, 8),
    "max_session_segments": (2, 3, 4, 5),
    "temporal_dim": (8, 16, 32, 64),
}


def space_of(tmp_path: Path, text: str) -> object:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(path)


@pytest.mark.parametrize("model", ["VSKNN", "VSTAN"])
def test_the_spaces_of_the_clone_are_read(model: str) -> None:
    path = Path(__file__).resolve().parents[2] / "configs" / "search" / f"{model.lower()}.yaml"
    space = read_space(path)
    assert check_space(space, str(path), SessionConfig(model, "ml-100k"), {}) == space


def test_the_papers_grid() -> None:
    space = read_space(PAPER_SPACE)
    assert {key: tuple(entry) for key, entry in space.items()} == PAPER
    assert math.prod(map(len, grid_of(space).values())) == 6 * 6 * 4 * 4 * 4


@pytest.mark.parametrize(
    ("model", "features", "kept"),
    [
        ("SessionBERT4Rec", ["ST", "SSE", "TSA"], set(PAPER)),
        ("SessionBERT4Rec", ["ST"], {"hidden_size", "mask_ratio", "n_heads"}),
        ("SessionBERT4Rec", ["TSA"], {"hidden_size", "mask_ratio", "n_heads", "temporal_dim"}),
        ("SASRec", None, {"hidden_size", "n_heads"}),
        ("BERT4Rec", None, {"hidden_size", "mask_ratio", "n_heads"}),
    ],
)
def test_what_changes_nothing_is_not_searched(model: str, features: list[str] | None, kept: set[str]) -> None:
    keys = {} if features is None else {"session_features": features}
    config = SessionConfig(model, "toy", config_dict=keys)
    assert set(check_space(read_space(PAPER_SPACE), str(PAPER_SPACE), config, {})) == kept


def test_features_may_be_searched(tmp_path: Path) -> None:
    space = space_of(tmp_path, "session_features: [[], [ST], [ST, TSA]]\ntemporal_dim: [8, 16]\n")
    config = SessionConfig("SessionBERT4Rec", "toy", config_dict={"session_features": []})
    assert set(check_space(space, "space.yaml", config, {})) == {"session_features", "temporal_dim"}
    assert grid_of(space) == {"session_features": ["[]", '["ST"]', '["ST", "TSA"]'], "temporal_dim": [8, 16]}
    params = {"session_features": '["ST"]', "temporal_dim": 8}
    assert decode(space, params) == {"session_features": ["ST"], "temporal_dim": 8}


def test_ranges(tmp_path: Path) -> None:
    space = space_of(tmp_path, "hidden_size: {low: 8, high: 64}\nlearning_rate: {low: 1e-4, high: 1e-2, log: True}\n")
    trial = optuna.trial.FixedTrial({"hidden_size": 9, "learning_rate": 0.003})
    assert suggest(trial, space) == {"hidden_size": 9, "learning_rate": 0.003}
    assert trial.distributions["hidden_size"] == optuna.distributions.IntDistribution(8, 64)
    assert trial.distributions["learning_rate"] == optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
    with pytest.raises(InputError, match="hidden_size is a range, which has no grid"):
        grid_of(space)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no key to search"),
        ("hidden_size: 3", r"hidden_size is 3; allowed: a list of choices"),
        ("hidden_size: []", r"hidden_size is \[\]"),
        ("hidden_size: [8, 8]", "hidden_size has a choice twice"),
        ("hidden_size: {low: 8}", "hidden_size is {'low': 8}"),
        ("hidden_size: {low: 8, high: 8}", "low < high"),
        ("hidden_size: {low: 8, hihg: 9}", "hidden_size is "),
        ("mask_ratio: {low: 0.0, high: 0.5, log: True}", "a low above 0"),
        ("mask_ratio: {low: a, high: 0.5}", "allowed: numbers low < high"),
    ],
)
def test_mistakes_in_a_space(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        space_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "fixed", "message"),
    [
        ("hiden_size: [8]", {}, r"SessionBERT4Rec does not read 'hiden_size'; did you mean 'hidden_size'\?"),
        ("hidden_size: [8, 0]", {}, "hidden_size is 0; allowed"),
        ("mask_ratio: {low: 0.5, high: 1.5}", {}, "mask_ratio is 1.5; allowed"),
        ("topk: [[5], [10]]", {}, "topk cannot be searched"),
        ("seed: [1, 2]", {}, "seed cannot be searched"),
        ("session_gap: [1800, 86400]", {}, "session_gap cannot be searched"),
        ("user_inter_num_interval: ['[3,inf)', '[5,inf)']", {}, "user_inter_num_interval cannot be searched"),
        ("hidden_size: [8]", {"hidden_size": 8}, "--hidden_size is given, but space.yaml searches it"),
        ("temporal_dim: [8]", {}, "holds nothing that changes this SessionBERT4Rec"),
    ],
)
def test_what_does_not_fit_the_model(text: str, fixed: dict[str, object], message: str, tmp_path: Path) -> None:
    keys = {"session_features": ["ST"], "eval_args": {"split": {"SS": "valid_and_test"}}}
    config = SessionConfig("SessionBERT4Rec", "toy", config_dict=keys)
    with pytest.raises(InputError, match=message):
        check_space(space_of(tmp_path, text), "space.yaml", config, fixed)
