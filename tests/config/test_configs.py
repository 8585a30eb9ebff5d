"""The experiment files that users start from, and the commands of the README and the docs."""

import re
import shlex
from pathlib import Path

import pytest

from recbole_session.config.models import PROPERTIES
from recbole_session.config.session_config import SessionConfig
from recbole_session.config.values import read_yaml_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
COMMANDS = ("python run_recbole_session.py --model", "recbole-session train --model")
# Dataset -> L, mask p, heads, m, d_T, batch, epochs, patience of the paper.
PAPER = {
    "ml-1m": (200, 0.2, 2, 3, 16, 128, 800, 400),
    "ml-20m": (100, 0.2, 4, 5, 64, 256, 400, 200),
    "steam": (15, 0.15, 2, 5, 32, 2048, 800, 400),
}
KEYS = "MAX_ITEM_LIST_LENGTH mask_ratio n_heads max_session_segments temporal_dim train_batch_size epochs stopping_step"


@pytest.mark.parametrize("dataset", PAPER)
def test_paper_settings(dataset: str) -> None:
    config = SessionConfig("SessionBERT4Rec", dataset, [ROOT / "configs" / "paper" / f"{dataset}.yaml"])
    assert tuple(config[key] for key in KEYS.split()) == PAPER[dataset]
    assert (config["hidden_size"], config["n_layers"], config["inner_size"]) == (256, 4, 1024)
    assert (config["hidden_dropout_prob"], config["attn_dropout_prob"], config["ft_ratio"]) == (0.2, 0.2, 0)
    assert (config["learner"], config["learning_rate"], config["weight_decay"]) == ("adamw", 0.001, 0.05)
    assert (config["valid_metric"], config["valid_candidates"]) == ("NDCG@10", "random")
    assert not config.unused_keys


def test_small_is_the_defaults() -> None:
    small = read_yaml_file(ROOT / "configs" / "small.yaml")
    defaults = read_yaml_file(PROPERTIES / "model" / "SessionBERT4Rec.yaml")
    del defaults["layer_norm_eps"]
    assert small == defaults


def written_commands() -> list[str]:
    """Commands that train, but for those that resume a run and the model that extending.md adds."""
    blocks = [block for page in PAGES.values() for block in re.findall(r"^```\w*\n(.*?)^```", page, re.M | re.S)]
    lines = {line for block in blocks for line in block.splitlines() if line.startswith(COMMANDS)}
    return sorted(line for line in lines if "--resume" not in line and "SessionGRU" not in line)


def test_the_pages_have_commands() -> None:
    assert len(written_commands()) >= 8


@pytest.mark.parametrize("command", written_commands())
def test_commands_name_keys_and_models_that_exist(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    arguments = words[next(place for place, word in enumerate(words) if word.startswith("--")) :]
    monkeypatch.chdir(ROOT)
    config = SessionConfig(command_line=[argument.replace(" other.yaml", "") for argument in arguments])
    assert config["epochs"] >= 1


def test_the_table_of_keys_lists_the_defaults_that_are_in_force() -> None:
    config = SessionConfig("SessionBERT4Rec", "ml-100k")
    table = PAGES["keys.md"].split("## Keys")[1].split("All defaults")[0]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", table, flags=re.MULTILINE)
    assert len(rows) >= 12
    for names, values in rows:
        keys = re.findall(r"`(\w+)`", names)
        written = [value.strip().strip("`") for value in re.split(r",(?![^\[]*\])", values)]
        for key, value in zip(keys, written, strict=True):
            in_force = config.resolved[key]
            expected = "~" if in_force is None else str(in_force).replace("'", "")
            assert value == expected, key
