"""How much memory a piece of code takes at its peak, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

MEASURE = """
import resource
import torch
torch.set_num_threads(1)
{before}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = peak()
{measured}
print(peak() - start)
"""


def peak_growth(before: str, measured: str) -> float:
    """MiB by which the peak of the resident memory grows while ``measured`` runs, after ``before``."""
    code = MEASURE.format(before=before, measured=measured)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024
