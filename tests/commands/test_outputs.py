"""Outputs that cannot be written are refused before the work whose results they take."""

from collections.abc import Callable
from pathlib import Path

import pytest

from recbole_session.cli import main


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["recommend"], "a.csv"),
        (["explain", "--user=u1"], "a.png"),
        (["explain", "--user=u1"], "a.md"),
        (["export"], "a.onnx"),
        (["export"], "a.json"),
    ],
)
@pytest.mark.parametrize("problem", ["a folder", "a full disk"])
def test_refused_before_the_model_is_loaded(
    command: list[str],
    name: str,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full_disk: Callable[[int], None],
) -> None:
    monkeypatch.setattr("recbole_session.inference.recommender.load", None)
    output = {"a.md": "a.png", "a.json": "a.onnx"}.get(name, name)
    if problem == "a folder":
        (tmp_path / name).mkdir()
        words = f"{tmp_path / name} is a folder; name a file"
    else:
        full_disk(1000)
        words = f"{tmp_path / output} cannot be written: File too large"
    assert main([*command, f"--run={tmp_path}", f"--output={tmp_path / output}"]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))
