"""Every command in README.md and docs/ is valid, and it runs, unless its page says that it is not run.

A page says so in a comment, `<!-- not run (why): part of the command -->`. Commands run on a tiny dataset under the
name that they give, with one epoch where they do not say how many.
"""

import glob
import importlib.util
import json
import os
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest

from recbole_session.cli import SUBCOMMANDS, main, parse
from recbole_session.commands.compare import _OPTIONS
from recbole_session.compare.plan import choose_plan, shared_keys
from recbole_session.compare.resolving import _config, check_names, overridden
from recbole_session.config.session_config import SessionConfig
from recbole_session.config.values import parse_command_line
from recbole_session.run.training import run_session
from recbole_session.tune.search_space import PAPER_SPACE, read_search
from tests.conftest import DAY, random_rows
from tests.converters.test_datasets import CASES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.name != "extending.md"]  # test_extending.py runs it as a whole
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:recbole-session|make|python run_recbole_session\.py) [^`]+)`(?!`)")
MARK = re.compile(r"<!-- not run \((.+?)\): (.+?) -->")
PROGRAMS = (
    ("recbole-session",),
    ("python", "run_recbole_session.py"),
    ("python", "-m", "recbole_session"),
    ("torchrun", "--nproc_per_node=2", "-m", "recbole_session"),
)
STAMP = "20260131-120000"


def commands_of(text: str) -> list[list[str]]:
    """Commands of a page's blocks, and of its sentences where they have options or a target, as lists of words."""
    lines = [line for language, block in BLOCK.findall(text) for line in block.splitlines() if language in ("", "bash")]
    lines += [span for span in INLINE.findall(text) if " --" in span or span.startswith("make")]
    commands = []
    for line in lines:
        if not re.match(r"([A-Z_]+=\S+ )?(recbole-session|python|torchrun|make) ", line):
            continue
        words = shlex.split(line, comments=True)
        commands.append(words[1:] if "=" in words[0] else words)
    return commands


def arguments_of(command: list[str]) -> list[str] | None:
    """What comes after the name of this program; None for another program."""
    for words in PROGRAMS:
        if tuple(command[: len(words)]) == words:
            rest = command[len(words) :]
            return ["train", *rest] if words[-1].endswith(".py") else rest
    return None


def is_marked(command: list[str], text: str) -> bool:
    return any(part in shlex.join(command).replace("'", "") for _, part in MARK.findall(text))


def check(argv: list[str]) -> None:
    """Read options, keys and values as the command itself does, and stop there."""
    arguments = parse(argv)
    if argv[0] == "train":
        if not isinstance((arguments.resume or [True])[0], str):
            SessionConfig(command_line=arguments.keys)
    elif argv[0] in ("compare", "tune"):
        keys = parse_command_line(arguments.keys)
        files = str(keys.pop("config_files", "")).split()
        check_names(keys, _OPTIONS, arguments.dataset)
        if argv[0] == "tune":
            names = {"model": arguments.model, "dataset": arguments.dataset}
            read_search(names, files, keys, arguments.search or PAPER_SPACE, arguments.sampler)
            return
        plan = choose_plan(arguments.preset, arguments.plan, arguments.seeds, arguments.baseline, arguments.name)
        shared = shared_keys(plan, files, keys)
        for row in plan.rows:
            _config(overridden(row, keys), {**shared, "dataset": arguments.dataset}, keys)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny datasets, logs, and runs where the pages have three dots."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "configs").symlink_to(ROOT / "configs")
    rows = [(196 + int(str(row[0])[1:]), str(row[1])[1:], row[2]) for row in random_rows(n_users=15, n_items=130)]
    for name in ("ml-100k", "ml-1m", "NAME"):
        place = folder / "atomic_data" / name
        place.mkdir(parents=True)
        lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
        (place / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "other.yaml").write_text("seed: 7\n", encoding="utf-8")
    events = [
        (user, item, 100 * item + 2 * DAY * session) for user in range(6) for session in (0, 1) for item in range(5)
    ]
    log = "\n".join(["who,what,when", *(f"{user},{item},{time}" for user, item, time in events)])
    (folder / "log.csv").write_text(log, encoding="utf-8")
    (folder / "asks.jsonl").write_text(json.dumps({"user": "7", "history": [["1", 881250949]]}) + "\n")
    best = folder / "saved" / "ml-1m" / "tuning-SessionBERT4Rec" / "best.yaml"
    best.parent.mkdir(parents=True)
    best.write_text("model: SessionBERT4Rec\ndataset: ml-1m\nlearning_rate: 0.01\n", encoding="utf-8")
    (folder / "data.csv").write_bytes(CASES["online-retail"][0]["data.csv"])
    downloads = folder / "Downloads"
    downloads.mkdir()
    with zipfile.ZipFile(downloads / "clicks.zip", "w") as archive:
        for name, content in CASES["globo"][0].items():
            archive.writestr(name, content)
    with zipfile.ZipFile(downloads / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "".join(f"{user}::{item}::4::{time}\n" for user, item, time in events))
    return folder


@pytest.fixture(scope="module")
def with_runs(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with finished runs on ml-100k and two that can be resumed on ml-1m."""
    folder = tmp_path_factory.mktemp("runs") / "clone"
    shutil.copytree(workplace, folder, symlinks=True)
    small = {"epochs": 1, "data_path": str(folder / "atomic_data")}
    runs = [("SessionBERT4Rec", "ml-100k", {}), ("SessionSASRec", "ml-100k", {}), ("SASRec", "ml-100k", {})]
    runs += [("SessionBERT4Rec", "ml-100k", {"session_features": []})]
    runs += [("SessionBERT4Rec", "ml-1m", {}), ("SessionBERT4Rec", "ml-1m", {"seed": 7})]
    for model, dataset, keys in runs:
        values = {**small, "checkpoint_dir": str(folder / "saved"), **keys}
        made = Path(run_session(model, dataset, config_dict=values)["run_folder"])
        if dataset == "ml-1m":
            (made / "result.json").unlink()
        place = made.with_name(f"{model}-{STAMP}")
        made.rename(place if not place.exists() else place.with_name(f"{place.name}-2"))
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_and_values_are_valid(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    text = page.read_text(encoding="utf-8")
    commands = commands_of(text)
    for command in commands:
        argv = arguments_of(command)
        if argv is not None:
            check(argv)
        elif command[0] == "make":
            targets = {word for word in command[1:] if "=" not in word}
            assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)), command
        else:
            assert (ROOT / command[1]).is_file(), command
    for _, part in MARK.findall(text):
        assert any(part in shlex.join(command).replace("'", "") for command in commands), f"a mark for nothing: {part}"


def to_run(page: Path) -> list[list[str]]:
    text = page.read_text(encoding="utf-8")
    found = [arguments_of(command) for command in commands_of(text) if not is_marked(command, text)]
    return [argv for argv in found if argv is not None]


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=lambda page: page.name)
def test_they_run(page: Path, workplace: Path, request: pytest.FixtureRequest, tmp_path: Path,
                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    needs_runs = re.search(r"saved/\S+(-\.\.\.|\*|-[0-9]{8})", page.read_text(encoding="utf-8"))
    if needs_runs and page.name != "tutorial.md":
        workplace = request.getfixturevalue("with_runs")
    shutil.copytree(workplace, tmp_path / "clone", symlinks=True)
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("HOME", str(tmp_path / "clone"))
    for argv in to_run(page):
        words = [os.path.expanduser(word).replace("-...", f"-{STAMP}") for word in argv]  # noqa: PTH111
        words = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]  # noqa: PTH207
        if words[0] == "train" and not any(word.startswith(("--epochs", "--resume=")) for word in words):
            words.append("--epochs=1")
        elif words[0] == "convert":  # the filters would leave nothing of so little
            words += ["--all_users", "--min_item_rows=1"]
        if words[0] == "export" and importlib.util.find_spec("onnxscript") is None:
            continue  # its packages want numpy 2
        assert main(words) == 0, shlex.join(words)


def test_the_collector_sees_what_there_is() -> None:
    text = "\n".join(
        ["```bash", "# recbole-session train", "A=1 recbole-session stats ml-1m  # it", "pip install x", "```",
         "`recbole-session train`, `recbole-session audit --x y`, `make docs`", "```python", "make x", "```"]
    )  # fmt: skip
    assert commands_of(text) == [
        ["recbole-session", "stats", "ml-1m"],
        ["recbole-session", "audit", "--x", "y"],
        ["make", "docs"],
    ]
    assert arguments_of(["python", "run_recbole_session.py", "--seed=1"]) == ["train", "--seed=1"]
    assert sum(len(commands_of(page.read_text(encoding="utf-8"))) for page in PAGES) > 45
    named = {argv[0] for page in PAGES for argv in to_run(page)}
    assert named == set(SUBCOMMANDS) - {"compare"}  # which takes minutes


@pytest.mark.parametrize(
    "line", ["recbole-session train --modle=SASRec", "recbole-session stats ml-1m --polt x", "recbole-session comapre",
             "recbole-session compare --dataset=ml-1m --preset=papr", "recbole-session tune --dataset=ml-1m --trails=5",
             "recbole-session train --model=SASRec --dataset=ml-1m --hidden_size=0"]
)  # fmt: skip
def test_what_is_wrong_is_found(line: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    with pytest.raises((ValueError, SystemExit)):
        check(shlex.split(line)[1:])
