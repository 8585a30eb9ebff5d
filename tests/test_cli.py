"""One grammar for all sub-commands: help, examples, mistyped names."""

import importlib
import shlex
import sys
from pathlib import Path

import pytest

from recbole_session.cli import SUBCOMMANDS, main
from recbole_session.live import live_table

EXAMPLES = {name: importlib.import_module(module).EXAMPLES for name, module in SUBCOMMANDS.items()}


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and all that is printed."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out + captured.err


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_has_examples_and_defaults(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = output(capsys, name, "--help")
    assert code == 0
    for example in EXAMPLES[name]:
        assert f"  recbole-session {example}\n" in text
    assert "(default: None)" not in text


def test_help_shows_a_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(output(capsys, "recommend", "--help")[1].split())
    assert text.count("(default: 256)") == 1
    assert "where datasets are (default: atomic_data)" in " ".join(output(capsys, "stats", "--help")[1].split())


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_examples_can_be_parsed(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = shlex.split(example)
    given = []
    __import__(SUBCOMMANDS[name])
    monkeypatch.setattr(sys.modules[SUBCOMMANDS[name]], "run", given.append)
    assert main([name, *arguments]) == 0
    assert given[0].subcommand == name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "'trian' is unknown; did you mean 'train'?"),
        (["stats", "ml-100k", "--polt=a.png"], "'--polt' is unknown; did you mean '--plot'?"),
        (["stats", "ml-100k", "--polt", "a.png"], "'--polt' is unknown; did you mean '--plot'?"),
        (["recommend", "--runn", "x", "--output", "y.csv"], "'--runn' is unknown; did you mean '--run'?"),
    ],
)
def test_a_mistyped_name_points_to_the_nearest(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = output(capsys, *arguments)
    assert code == 2
    assert words in text


def test_escape_sequences_are_printed_as_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["report", str(tmp_path / "\x1b[2J")]) == 2
    with pytest.raises(SystemExit):
        main(["report", "x", "y", "--baseline=z", "--", "--\x1b[2J"])
    with live_table((), lambda: ((), "")) as tell:
        tell("\x1b[2J")
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("\\x1b[2J") == 3
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize("equals", [True, False])
def test_keys_may_be_written_with_a_blank(equals: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_session.commands import train
    from recbole_session.config.values import parse_command_line

    given = []
    monkeypatch.setattr(train, "run", given.append)
    pairs = {"--model": "SASRec", "--dataset": "toy", "--topk": "[5, 10]", "--seed": "7", "--eval_args.order": "TO"}
    words = (
        [f"{key}={value}" for key, value in pairs.items()]
        if equals
        else [part for pair in pairs.items() for part in pair]
    )
    assert main(["train", *words]) == 0
    assert parse_command_line(given[0].keys) == {
        "model": "SASRec", "dataset": "toy", "topk": [5, 10], "seed": 7, "eval_args": {"order": "TO"},
    }  # fmt: skip


def test_ctrl_c_during_the_imports_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_session.cli.importlib.import_module", interrupted)
    assert main(["stats", "ml-100k"]) == 130
    assert capsys.readouterr().err == "recbole-session: interrupted\n"
