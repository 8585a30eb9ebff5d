"""Histories per second of `recommend`, beside RecBole's `full_sort_topk`, and the memory of a long stream.

    python benchmarks/recommend.py RUN_FOLDER [--seconds 10] [--stream 1000000] [--data_path atomic_data]

Both answer the same questions, the test positions of the run's dataset, with the same weights and k = 10.
`full_sort_topk` gets internal user ids and finds their histories ready in the dataset; `recommend` gets raw ids
and raw times, sorts, derives the sessions, leaves out what was seen and gives raw ids back.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from recbole.utils.case_study import full_sort_topk

import recbole_session
from recbole_session.data.loaders import build_loaders
from recbole_session.inference.questions import dataset_requests
from recbole_session.run.run import Run


def rate(answer: Callable[[int], object], batch_size: int, n_users: int, seconds: float) -> float:
    """Histories per second over at least ``seconds``, after a warm-up; ``answer`` takes the first of a batch."""
    starts = range(0, n_users - batch_size + 1, batch_size)
    answer(starts[0])
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for start in starts:
            answer(start)
            done += batch_size
            if time.perf_counter() - begin >= seconds:
                break
    return done / (time.perf_counter() - begin)


def speed(run_folder: Path, data_path: Path | None, seconds: float) -> None:
    recommender = recbole_session.load(run_folder)
    dataset = Run(run_folder).dataset(data_path, may_differ=True)
    requests = list(dataset_requests(dataset, "test"))
    _, _, test_data = build_loaders(recommender.config, dataset)
    test_data.is_sequential = True  # what full_sort_topk asks RecBole's own loader
    users = test_data.dataset.inter_feat[dataset.uid_field].tolist()
    print(f"{run_folder.name}: {len(users):,} users, {dataset.item_num - 1:,} items, "
          f"L = {recommender.config['MAX_ITEM_LIST_LENGTH']}, {torch.get_num_threads()} thread(s)\n")  # fmt: skip
    print("| histories at once | recommend, per second | full_sort_topk, per second |\n|---|---|---|")
    for size in (1, 256):

        def ours(start: int, size: int = size) -> object:
            return recommender.answer(requests[start : start + size])

        def theirs(start: int, size: int = size) -> object:
            return full_sort_topk(users[start : start + size], recommender.model, test_data, k=10)

        rates = [rate(answer, size, len(users), seconds) for answer in (ours, theirs)]
        print(f"| {size} | {rates[0]:,.0f} | {rates[1]:,.0f} |")


def stream(run_folder: Path, count: int) -> None:
    """Run the command over ``count`` made-up histories of 3 to 12 events and report its largest memory."""
    items = recbole_session.load(run_folder).vocabulary.items
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "histories.jsonl")
        with source.open("w", encoding="utf-8") as file:
            for user in range(count):
                second = generator.randrange(800_000_000, 900_000_000)
                events = []
                for _ in range(generator.randint(3, 12)):
                    second += generator.choice((60, 600, 200_000))
                    events.append([generator.choice(items), second])
                file.write(json.dumps({"user": user, "history": events}) + "\n")
        command = [sys.executable, "-m", "recbole_session", "recommend", f"--run={run_folder}"]
        command += [f"--histories={source}", f"--output={folder}/answers.csv"]
        begin = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - begin
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{count:,} histories: {seconds:.0f} s, largest memory {megabytes:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of recommend.")
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--data_path", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="of every measurement; 0 leaves them out")
    parser.add_argument("--stream", type=int, default=0, help="histories to stream through the command")
    arguments = parser.parse_args()
    if arguments.seconds > 0:
        speed(arguments.run_folder, arguments.data_path, arguments.seconds)
    if arguments.stream:
        stream(arguments.run_folder, arguments.stream)


if __name__ == "__main__":
    main()
