import os
import sys
from pathlib import Path

import nbclient
import nbformat

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "quickstart.ipynb"


def test_the_quick_start_runs_with_fewer_epochs(tmp_path: Path, monkeypatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for epochs in ('"epochs": 20, "eval_step": 4', "epochs: 20, eval_step: 4"):
            cell.source = cell.source.replace(epochs, epochs.replace("20", "1").replace("4", "1"))
    scripts = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    data = [output.get("data", {}) for output in outputs]
    assert any("recommended" in str(entry.get("text/plain")) for entry in data)
    assert any("| sessions |" in entry.get("text/markdown", "") for entry in data)
    assert "image/png" in data[-1]
    assert (tmp_path / "saved" / "ml-100k" / "comparison-sessions" / "report.html").is_file()
