"""docs/extending.md, run from top to bottom as it is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


def as_program(page: str, clone: Path) -> str:
    """Write the blocks that are files into ``clone``, and return the others as one Python program."""
    steps = []
    for language, title, block in BLOCK.findall(page):
        if title:
            assert not (clone / title).exists(), "a new file"
            (clone / title).write_text(block, encoding="utf-8")
        elif language == "bash":
            steps.append(f"import subprocess\nsubprocess.run({block!r}, shell=True, check=True)\n")
        else:
            steps.append(block)
    return "\n".join(steps)


def test_the_page_runs_as_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recbole_session", tmp_path / "recbole_session")
    program = as_program((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), tmp_path)
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    written, items, closeness = done.stdout.splitlines()[-3:]
    assert written == str(Path("atomic_data", "films", "films.inter"))
    assert items.count("film-") == 3
    assert 0 <= float(closeness) <= 1
    models = {folder.name.split("-")[0] for folder in (tmp_path / "saved" / "films").iterdir()}
    assert models == {"SessionGRU", "WeekdayBERT4Rec", "SmallSASRec"}
    report = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert all(model in report for model in models)
