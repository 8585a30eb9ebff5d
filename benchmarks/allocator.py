"""What a training step on the CPU gains from memory that is kept (`recbole_session.allocator`).

    python benchmarks/allocator.py

Processes with and without take turns, each with the paper's ML-1M setting on ml-1m-part; printed are the medians of
their steps.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from setting import build_ours, prepare_dataset, working_folder
from train import PAPER, trainer_step

import recbole_session.trainer


def measure(keep: bool, steps: int) -> None:
    """Print the seconds of some steps, a line each."""
    if not keep:
        recbole_session.trainer.keep_freed_memory = lambda: False
    with working_folder() as folder:
        data_path = prepare_dataset("ml-1m-part", folder)
        step = trainer_step(build_ours("SessionBERT4Rec", "ml-1m-part", data_path, folder, PAPER))
        step()
        for _ in range(steps):
            print(step()[0])


def main() -> None:
    """Run the children in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="timed steps per process")
    parser.add_argument("--processes", type=int, default=2, help="of each kind")
    parser.add_argument("--child", choices=["keep", "return"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child == "keep", arguments.steps)
        return
    seconds: dict[str, list[float]] = {"keep": [], "return": []}
    for _ in range(arguments.processes):
        for child in seconds:
            command = [sys.executable, Path(__file__), f"--child={child}", f"--steps={arguments.steps}"]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds[child] += map(float, printed.split()[-arguments.steps :])
    medians = {child: statistics.median(times) for child, times in seconds.items()}
    print(f"freed memory returned: {medians['return']:.2f} s a step; kept: {medians['keep']:.2f} s")
    print(f"ratio {medians['return'] / medians['keep']:.2f}")


if __name__ == "__main__":
    main()
