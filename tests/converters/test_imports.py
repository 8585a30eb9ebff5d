"""Who pays for what: a conversion needs DuckDB, not torch, recbole or pandas."""

import os
import subprocess
import sys


def test_imports(tmp_path):
    code = """
import pathlib, sys, tempfile
from recbole_session.converters import convert
convert("ml-100k", None, pathlib.Path(tempfile.mkdtemp()))
print(*sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    unwanted = {"torch", "recbole", "pandas", "pyarrow", "pyspark", "matplotlib", "pooch"}
    assert not unwanted & set(result.stdout.split())
