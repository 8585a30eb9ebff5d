"""The wheel, in an environment that holds what it asks for and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from recbole_session import __version__
from recbole_session.compat import RECBOLE_VERSION

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("recbole_session", "README.md", "LICENSE", "MANIFEST.in", "setup.py", "pyproject.toml")
PYTHONS = os.environ.get("RECBOLE_SESSION_PYTHONS", "").split()
LINE = f"pip install --no-deps recbole=={RECBOLE_VERSION}"


def without_extras(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that a list of requirements asks for on this Python."""
    parsed = map(Requirement, requirements)
    return {entry.name for entry in parsed if entry.marker is None or entry.marker.evaluate({"extra": ""})}


def brought_by(wheel: Path) -> set[str]:
    """Names of the distributions that ``pip install`` of the wheel brings."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        requires = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist")
    found, waiting = set[str](), without_extras(requires)
    while waiting:
        found |= waiting
        waiting = {
            required for name in waiting for required in without_extras(distribution(name).requires or ())
        } - found
    return found


class Environment:
    """A virtual environment that borrows installed distributions through links."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.folder = folder
        self.site_packages = next((folder / "lib").glob("python*/site-packages"))

    def borrow(self, name: str) -> None:
        for first in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            link = self.site_packages / first
            if not link.exists():  # several distributions share a namespace package
                link.symlink_to(distribution(name).locate_file(first))

    def install(self, wheel: Path) -> None:
        python = str(self.folder / "bin" / "python")
        pip("--python", python, "install", "--ignore-installed", "--no-deps", "--no-index", str(wheel))

    def run(self, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a line of shell in ``folder``, as in an activated environment and away from this checkout."""
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        variables |= {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, shell=True, cwd=folder, env=variables, capture_output=True, text=True)


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from it."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(output)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, stdout=subprocess.DEVNULL)
    (archive,) = output.glob("*.tar.gz")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(output), str(archive))
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Do what ``pip install recbole-session`` does."""
    environment = Environment(tmp_path_factory.mktemp("environment"))
    for name in brought_by(wheel):
        environment.borrow(name)
    environment.install(wheel)
    return environment


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = {path for path in (ROOT / "recbole_session").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to(ROOT).as_posix() for path in files} <= packed
    assert not [name for name in packed if not name.startswith("recbole_session")]


def test_what_recbole_pins_and_nobody_imports_stays_out(wheel: Path) -> None:
    assert not {"ray", "thop", "tabulate", "plotly", "psutil", "recbole"} & brought_by(wheel)


def test_without_recbole_its_line_is_named(environment: Environment, tmp_path: Path) -> None:
    done = environment.run("recbole-session train --model=SASRec --dataset=ml-100k", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and LINE in done.stderr
    imported = environment.run("python -c 'import recbole_session.run'", tmp_path)
    assert imported.stderr.splitlines()[-1].endswith(LINE)
    ratings = "".join(f"{user}\t{item}\t5\t{user * item}\n" for user in range(1, 12) for item in range(1, 12))
    (tmp_path / "u.data").write_text(ratings)
    assert environment.run("recbole-session convert ml-100k --raw=u.data", tmp_path).returncode == 0


def test_the_tutorial_runs_in_an_empty_folder(environment: Environment, tmp_path: Path) -> None:
    environment.borrow("recbole")
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    *commands, compare = re.findall(r"```bash\n(.*)\n```", text)
    assert len(commands) == 4 and "compare" in compare  # which takes half an hour; tests/compare has shorter ones
    for command in commands:
        done = environment.run(command, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    answers = (tmp_path / "answers.csv").read_text().splitlines()
    assert len(answers) == 1 + 943 * 5
    assert LINE in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_version_and_completion(environment: Environment, tmp_path: Path) -> None:
    assert environment.run("recbole-session --version", tmp_path).stdout == f"recbole-session {__version__}\n"
    environment.borrow("argcomplete")
    line = "recbole-session convert --sess"
    variables = f"_ARGCOMPLETE=1 _ARGCOMPLETE_STDOUT_FILENAME=words COMP_LINE='{line}' COMP_POINT={len(line)}"
    environment.run(f"{variables} recbole-session", tmp_path)
    assert (tmp_path / "words").read_text().split("\v") == ["--session_gap", "--session_col"]


# Links the gigabytes of torch into another environment; the rest is small, and pip may replace it there.
LINK_TORCH = """
import re, sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

try:
    needed = [re.match(r"[\\w.-]+", line)[0] for line in distribution("torch").requires if "extra ==" not in line]
except PackageNotFoundError:
    sys.exit()
for name in ["torch", "torchgen", "functorch", *needed]:
    if re.match("torch|functorch|triton|nvidia|cuda", name):
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for first in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            link = Path(sys.argv[1], first)
            if not link.exists():
                link.symlink_to(found.locate_file(first))
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_from_an_empty_environment(python: str, wheel: Path, tmp_path: Path) -> None:
    """What the README says to type, with pip's own resolver; only torch is linked if ``python`` has it.

    RECBOLE_SESSION_PYTHONS names the Pythons. ``-rP`` shows what was installed.
    """
    folder, work = tmp_path / "environment", tmp_path / "work"
    work.mkdir()
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    site_packages = next((folder / "lib").glob("python*/site-packages"))
    subprocess.run([python, "-c", LINK_TORCH, str(site_packages)], check=True)
    environment = Environment.__new__(Environment)
    environment.folder = folder
    try:
        for command in (
            f"python -m pip install --quiet {wheel}",
            f"python -m {LINE} --quiet",
            "recbole-session train --model=SessionSASRec --dataset=ml-100k --epochs=1 --MAX_ITEM_LIST_LENGTH=20",
            "recbole-session recommend --run saved/ml-100k/SessionSASRec-* --output answers.csv --k 5",
        ):
            done = environment.run(command, work)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert len((work / "answers.csv").read_text(encoding="utf-8").splitlines()) == 1 + 943 * 5
        installed = environment.run("python -VV; python -m pip list", work).stdout
        print(installed)
        assert not {"ray", "thop", "tabulate"} & {line.split(" ")[0] for line in installed.splitlines()}
    finally:
        shutil.rmtree(folder)  # gigabytes where torch was not linked
