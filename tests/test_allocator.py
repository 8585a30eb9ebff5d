"""In a process of its own each, as the setting is the process's."""

import platform
import subprocess
import sys

import pytest

# Page faults of allocating, filling and freeing blocks of 64 MiB, after a while.
FAULTS = """
import resource, torch
from recbole_session.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for repetition in range(40):
    if repetition == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.ones(2**24)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: bool) -> int:
    return int(subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    assert page_faults(keep=True) < 500 < page_faults(keep=False)
