"""From an atomic file to the first training batch: seconds, CPU seconds and peak memory, a fresh process for each.

    python benchmarks/load.py                                # 1 and 10 million rows
    python benchmarks/load.py --rows 100000000               # 100 million
    python benchmarks/load.py --against ../other-version     # another version of the project, in turn with this one
    python benchmarks/load.py --model SASRec --order time    # RecBole's model; rows in order of time, not of users

The generated file looks like the converter's: 100 rows a user on average, a thousandth as many items as rows (100 at
least), some popular, sessions of ten rows. "first" is the first load of a file, "again" the next one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[1]
# Runs in a process of its own, in this version of the project or in another.
CHILD = """
import json, resource, sys, time
start = time.perf_counter()
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
import torch
from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset
from recbole_session.run.build import build
torch.set_num_threads(2)
model, folder, saved = sys.argv[1:]
keys = {"data_path": folder, "checkpoint_dir": saved, "use_gpu": False, "hidden_size": 32, "n_layers": 1, "n_heads": 1}
if model.startswith("Session"):
    keys |= {"item_loss": "gbce", "session_features": ["ST"]}
stages = {"start": used()}
def noted(function, name):
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        stages[name] = used()
        return result
    return call
SessionDataset.__init__ = noted(SessionDataset.__init__, "load")
SessionDataset.build = noted(SessionDataset.build, "build")
parts = build(SessionConfig(model, "log", config_dict=keys))
stages["candidates"] = used()
checksum = parts.checksum
stages["checksum"] = used()
next(iter(parts.train))
stages["batch"] = used()
print(json.dumps({"stages": stages, "checksum": checksum}))
"""


def generate_log(path: Path, n_rows: int, order: str) -> None:
    """Write an ``.inter`` file of ``n_rows`` rows, ordered by user and time as the converter does, or by time."""
    n_items = max(n_rows // 1000, 100)
    path.parent.mkdir(parents=True)
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(path.parent / "spilled")}) as connection:
        # From one number come user, item and time: a user's rows are a minute apart, every tenth two days.
        rows = f"""
            SELECT 1 + n // 100 AS "user", 1 + CAST(floor({n_items} * pow((hash(n) % 1000000) / 1000000, 2)) AS BIGINT)
                AS item, 1 + hash(n + 1) % 5 AS rating, 900000000 + (n // 100 * 7919) % 10000000
                + n % 100 * 60 + n % 100 // 10 * 172800 AS seconds, 1 + n // 10 AS "session"
            FROM range({n_rows}) AS r(n)
            {'ORDER BY seconds, "user"' if order == "time" else ""}"""
        connection.execute(f"""COPY (SELECT "user" AS "user_id:token", item AS "item_id:token",
            CAST(rating AS DOUBLE) AS "rating:float", seconds AS "timestamp:float", "session" AS "session_id:token"
            FROM ({rows})) TO '{path}' (FORMAT csv, HEADER true, DELIMITER '\t', QUOTE '', ESCAPE '')""")
    shutil.rmtree(path.parent / "spilled", ignore_errors=True)


def measure(version: Path, model: str, folder: Path) -> dict[str, object]:
    """Load the log in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(version), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", CHILD, model, str(folder), str(folder / "saved")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=version, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else f"killed by signal {-done.returncode}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--model", nargs="+", default=["SessionSASRec", "SASRec"])
    parser.add_argument("--order", choices=("user", "time"), default="user")
    parser.add_argument("--against", type=Path, help="folder of another version of the project")
    parser.add_argument("--work", type=Path, help="where the files go; a temporary folder by default")
    options = parser.parse_args()
    versions = {"this version": ROOT, **({"other version": options.against.resolve()} if options.against else {})}
    print("| rows | model | version | load | seconds | of CPU | peak memory, GB | after each stage, s (GB) |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for n_rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            path = Path(work, "log", "log.inter")
            generate_log(path, n_rows, options.order)
            checksums = set()
            for place, model in enumerate(options.model):
                for load in ("first", "again") if place == 0 else ("again",):
                    for name, version in versions.items():
                        found = measure(version, model, Path(work))
                        if "error" in found:
                            print(f"| {n_rows:,} | {model} | {name} | {load} | {found['error']} | | | |", flush=True)
                            continue
                        checksums.add(found["checksum"])
                        stages = found["stages"]
                        seconds, cpu, peak = stages["batch"]
                        steps = ", ".join(f"{stage} {at:.1f} ({gb:.2f})" for stage, (at, _, gb) in stages.items())
                        numbers = f"{seconds:.1f} | {cpu:.1f} | {peak:.2f}"
                        print(f"| {n_rows:,} | {model} | {name} | {load} | {numbers} | {steps} |", flush=True)
            assert len(checksums) <= 1, "the versions read different rows"


if __name__ == "__main__":
    main()
