"""``recbole-session train`` and ``run_recbole_session.py``, which are one program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_session.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_mistakes_are_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in {
        ("--model=SessionBERT4Rec", "--dataset=ml-1m", f"--data_path={tmp_path}"): "recbole-session convert",
        ("--model=SessionBERT4Rec", "--dataset=ml-100k", "--temporal_dim=-1"): "temporal_dim is -1; allowed:",
        ("--model=sasrec", "--dataset=ml-100k"): "did you mean 'SASRec'",
        ("--model=SASRec", "--dataset=ml-100k", "--learning_rte=1"): "did you mean 'learning_rate'",
        ("--dataset=ml-100k",): "no model is named",
        (): "no model is named; give",
        ("--modle=SASRec", "--dataset=ml-100k"): "no model is named, and 'modle' is not a key; give --model=NAME",
        ("--model=SASRec", "--datset=ml-100k"): "no dataset is named, and 'datset' is not a key; give --dataset=NAME",
        ("--model=SASRec", "--data_path=somewhere"): "no dataset is named; give",
        ("--model=SASRec", "--dataset=toy", "epochs=3"): "argument 'epochs=3' is not understood; write --key=value",
        ("--resume", "--resume=somewhere"): "--resume is given twice",
        ("--resume=",): "--resume= names no folder",
    }.items():
        assert main(["train", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_ctrl_c_says_so_and_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(**kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_session.run.training.run_session", interrupted)
    assert main(["train", "--model=SASRec"]) == 130
    assert "recbole-session: interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SASRec"])
def test_the_readmes_command_on_bundled_ml_100k(model: str, tmp_path: Path) -> None:
    """From nothing: converted on first use, trained, evaluated, the table printed."""
    script = [str(ROOT / "run_recbole_session.py")] if model == "SASRec" else ["-m", "recbole_session", "train"]
    command = [sys.executable, *script, f"--model={model}", "--dataset=ml-100k"]
    command += ["--epochs=1", "--eval_step=1", "--MAX_ITEM_LIST_LENGTH=20", "--hidden_size=16"]
    command += ["--n_layers=1", "--inner_size=16"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert (tmp_path / "atomic_data" / "ml-100k" / "ml-100k.inter").is_file()
    assert f"{model}" in done.stderr
    for line in ("943 users, 1,682 items", "candidates", "random", "popular", "all"):
        assert line in done.stderr
    (result,) = (tmp_path / "saved" / "ml-100k").glob("*/result.json")
    assert json.loads(result.read_text())["num_users"] == 943
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atomic_data", "saved"]
