"""Who pays for what: a conversion needs DuckDB, not torch, recbole or pandas."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        (
            "from recbole_session.converters import convert; import pathlib, tempfile; "
            "convert('ml-100k', None, pathlib.Path(tempfile.mkdtemp()))",
            {"torch", "recbole", "pandas", "pyarrow", "pyspark", "matplotlib", "pooch"},
        ),
    ],
)
def test_imports(statement, unwanted, tmp_path):
    code = f"{statement}\nimport sys; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert not unwanted & set(result.stdout.split())
