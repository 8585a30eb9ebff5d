import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_of_the_docs_runs_from_data_to_recommendations(tmp_path: Path) -> None:
    """In a folder of its own and a new process, as a reader would type it."""
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "recommend.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(example.splitlines()) < 40
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nobody popular ['50', '258', '100']" in done.stdout
    assert "only in a new session" in done.stdout
