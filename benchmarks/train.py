"""One training step: this project, a plain reference, and RecBole's BERT4Rec and SASRec in RecBole's own Trainer.

    python benchmarks/train.py                                   # the paper's ML-1M setting on ml-1m-part
    python benchmarks/train.py --models ours plain --steps 9
    python benchmarks/train.py --dataset ml-100k --set hidden_size=64 n_layers=2 inner_size=256
    python benchmarks/train.py --scaling                         # how time grows with users, L, d and items

The models take their steps in turn, in one process; what is printed are medians. A step is what a trainer's loop does
for a batch: cutting and masking it, forward and backward pass, optimiser. ``ours`` and ``plain`` train on the same
batches, a sequence per user. RecBole trains on stored prefixes, a target each, so its tokens are shorter sequences of
the same users; compare its tokens per second, and mind that an epoch of it has many more of them.

GFLOP are the useful ones of `machine`, from the real tokens; memory is what the first step takes beyond what was there,
gradients and optimiser state included.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from machine import Shape, measure_peak, synchronize, training_flop
from plain_bert4rec import PlainBERT4Rec
from setting import (
    ROOT,
    ClockedLoader,
    build_ours,
    build_stock,
    describe,
    full_batches,
    generate_dataset,
    median,
    peak_memory,
    prepare_dataset,
    sequence_lengths,
    working_folder,
)

from recbole_session.config.values import parse_command_line

PAPER = ROOT / "configs" / "paper" / "ml-1m.yaml"
MODELS = ("ours", "plain", "BERT4Rec", "SASRec")
# What RecBole's models take over from the setting; all else is RecBole's default.
SHARED_KEYS = (
    "hidden_size", "inner_size", "n_layers", "n_heads", "hidden_dropout_prob", "attn_dropout_prob",
    "MAX_ITEM_LIST_LENGTH", "train_batch_size", "learner", "learning_rate", "weight_decay",
)  # fmt: skip

Step = Callable[[], tuple[float, Any]]


@dataclass
class Subject:
    """A model in training: ``step`` takes one and returns its seconds and its batch."""

    name: str
    step: Step
    count_outputs: Callable[[Any], float]
    shape: Shape
    device: torch.device
    steps_per_epoch: int
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    flop: list[float] = field(default_factory=list)
    memory: str = "?"

    def warm_up(self) -> None:
        """Take the first step, which is not timed, and measure its memory."""
        with peak_memory(self.device) as peak:
            self.step()
        self.memory = str(peak)

    def measure(self) -> None:
        """Take a step and note what it took and did."""
        seconds, batch = self.step()
        lengths = sequence_lengths(batch).tolist()
        self.seconds.append(seconds)
        self.tokens.append(sum(lengths))
        self.flop.append(training_flop(self.shape, lengths, self.count_outputs(batch)))

    def rate(self, amounts: Sequence[float]) -> float:
        """Median of amounts per second."""
        return median(amount / second for amount, second in zip(amounts, self.seconds, strict=True))


def trainer_step(run: SimpleNamespace) -> Step:
    """A step of RecBole's Trainer or of ours, in its own training loop."""
    batches = full_batches(run.train)

    def step() -> tuple[float, Any]:
        seen: list[Any] = []
        loader = ClockedLoader(run.train, run.config["device"], seen.append, islice(batches, 1))
        run.trainer._train_epoch(loader, 0)
        return loader.seconds, seen[0]

    return step


def plain_step(run: SimpleNamespace) -> Step:
    """A step of the plain reference with the run's weights."""
    device = run.config["device"]
    model = PlainBERT4Rec(run.config, run.model.n_items).to(device)
    model.load_state_dict(run.model.state_dict())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=run.config["learning_rate"], weight_decay=run.config["weight_decay"]
    )
    batches = full_batches(run.train)

    def step() -> tuple[float, Any]:
        start = time.perf_counter()
        batch = next(batches).to(device)
        model.train()
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
        synchronize(device)
        return time.perf_counter() - start, batch

    return step


def chosen_items(run: SimpleNamespace) -> Callable[[Any], float]:
    """Expected number of positions chosen for the cloze task; session tokens are never chosen."""
    n_items, ratio = run.model.n_items, run.config["mask_ratio"]

    def count(batch: Any) -> float:
        item_seq = batch["item_seq"]
        return ratio * float(((item_seq > 0) & (item_seq < n_items)).sum())

    return count


def build_subject(
    name: str, dataset: str, data_path: Path, folder: Path, files: Sequence[Path], keys: dict[str, Any], anomaly: bool
) -> Subject:
    run = build_ours("SessionBERT4Rec", dataset, data_path, folder, *files, **keys)
    if name in ("ours", "plain"):
        step = trainer_step(run) if name == "ours" else plain_step(run)
        shape = Shape.of(run.config, run.model.n_items)
        return Subject(name, step, chosen_items(run), shape, run.config["device"], len(run.train))
    stock = build_stock(name, dataset, data_path, folder, **{key: run.config[key] for key in SHARED_KEYS})
    inner = trainer_step(stock)

    def step() -> tuple[float, Any]:
        with torch.autograd.set_detect_anomaly(True) if anomaly else nullcontext():
            return inner()

    is_cloze = name == "BERT4Rec"
    head = stock.config["hidden_size"] ** 2 if is_cloze else 0
    shape = Shape.of(stock.config, stock.model.n_items, head_parameters=head, causal=not is_cloze)
    ratio = stock.config["mask_ratio"]

    def count_outputs(batch: Any) -> float:
        return ratio * float(sequence_lengths(batch).sum()) if is_cloze else len(batch)

    return Subject(f"RecBole {name}", step, count_outputs, shape, stock.config["device"], len(stock.train))


def take_turns(subjects: Sequence[Subject], steps: int) -> None:
    for subject in subjects:
        subject.warm_up()
    for _ in range(steps):
        for subject in subjects:
            subject.measure()


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    keys = parse_command_line([f"--{entry}" for entry in arguments.set])
    data_path = prepare_dataset(arguments.dataset, folder)
    run = build_ours("SessionBERT4Rec", arguments.dataset, data_path, folder, arguments.config, **keys)
    print(describe(arguments.dataset, run.config, run.data.user_num - 1, run.data.item_num - 1))
    print(f"{run.config['session_features']}, {run.config['train_batch_size']} sequences a step")
    peak, _ = measure_peak(run.config["device"], arguments.peak_seconds)
    print(f"measured peak {peak / 1e9:,.0f} GFLOP/s (float32 matrix products)\n")
    subjects = [
        build_subject(name, arguments.dataset, data_path, folder, [arguments.config], keys, arguments.anomaly)
        for name in arguments.models
    ]
    take_turns(subjects, arguments.steps)
    print_table(subjects, peak)


def print_table(subjects: Sequence[Subject], peak: float) -> None:
    """A row per model; times of the first model's are in the last columns."""
    first = subjects[0]
    head = ["model", "s per step", "min to max", "real tokens", "tokens/s", "useful GFLOP", "GFLOP/s", "of peak",
            "memory", "steps per epoch", f"step, {first.name} = 1", f"second per token, {first.name} = 1"]  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for subject in subjects:
        seconds, speed, tokens = median(subject.seconds), subject.rate(subject.flop), subject.rate(subject.tokens)
        row = [
            subject.name, f"{seconds:.3f}", f"{min(subject.seconds):.3f} to {max(subject.seconds):.3f}",
            f"{median(subject.tokens):,.0f}", f"{tokens:,.0f}", f"{median(subject.flop) / 1e9:,.1f}",
            f"{speed / 1e9:,.1f}", f"{speed / peak:.1%}", subject.memory, f"{subject.steps_per_epoch:,}",
            f"{seconds / median(first.seconds):.2f}", f"{first.rate(first.tokens) / tokens:.2f}",
        ]  # fmt: skip
        print(f"| {' | '.join(row)} |")
    print(f"\nmedians of {len(first.seconds)} steps; at the peak, a step of {first.name} would take "
          f"{median(first.flop) / peak:.3f} s: it takes {median(first.seconds) * peak / median(first.flop):.2f} "
          "times that")  # fmt: skip


# ---- growth

BASE = {"users": 256, "L": 100, "d": 64, "items": 2000}
GROWTH = {"users": (128, 256, 512, 1024), "L": (50, 100, 200, 400), "d": (32, 64, 128, 256),
          "items": (1000, 4000, 16000)}  # fmt: skip


def scaling_point(point: dict[str, int], folder: Path, steps: int) -> list[Subject]:
    """Both models on generated data: histories of about L tokens, 64 sequences a step, 2 layers."""
    name = "generated-" + "-".join(map(str, point.values()))
    generate_dataset(folder, name, point["users"], point["items"], rows_per_user=point["L"])
    keys = {
        "MAX_ITEM_LIST_LENGTH": point["L"],
        "hidden_size": point["d"],
        "inner_size": 4 * point["d"],
        "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.2,
        "train_batch_size": 64,
    }
    subjects = [build_subject(model, name, folder, folder, (), keys, anomaly=False) for model in ("ours", "plain")]
    take_turns(subjects, steps)
    return subjects


def scaling(arguments: argparse.Namespace, folder: Path) -> None:
    print("2 layers, 2 heads, f = 4 d, 64 sequences a step; where not named: "
          + ", ".join(f"{name} {value:,}" for name, value in BASE.items())
          + f"; {torch.get_num_threads()} thread(s), medians of {arguments.steps} steps")  # fmt: skip
    print("exponent: of time against the row above, in powers of what grows\n")
    head = ("ours, s per step", "ours, s per epoch", "exponent", "plain, s per step", "plain, s per epoch", "exponent")
    print(f"| grows | {' | '.join(head)} | plain / ours |\n|---|{'---|' * len(head)}---|")
    for name in arguments.axes:
        before: tuple[int, list[float]] | None = None
        for value in GROWTH[name]:
            subjects = scaling_point({**BASE, name: value}, folder, arguments.steps)
            step = [median(subject.seconds) for subject in subjects]
            epoch = [seconds * subject.steps_per_epoch for seconds, subject in zip(step, subjects, strict=True)]
            cells = []
            for place in range(2):
                exponent = "" if before is None else f"{growth(before, value, epoch, place):.2f}"
                cells += [f"{step[place]:.3f}", f"{epoch[place]:.2f}", exponent]
            print(f"| {name} {value:,} | {' | '.join(cells)} | {step[1] / step[0]:.1f} |", flush=True)
            before = value, epoch


def growth(before: tuple[int, list[float]], value: int, seconds: list[float], place: int) -> float:
    """Exponent ``e`` in ``time ~ size ** e`` between two points."""
    return math.log(seconds[place] / before[1][place]) / math.log(value / before[0])


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # what is done is seen, in a pipe too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-1m-part", help="ml-1m-part, ml-100k, or a folder of atomic_data")
    parser.add_argument("--config", type=Path, default=PAPER, help="keys of SessionBERT4Rec")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys over those of the file")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each model")
    parser.add_argument("--peak_seconds", type=float, default=1.0, help="of every matrix product")
    parser.add_argument("--anomaly", action="store_true", help="RecBole with the anomaly detection it switches on")
    parser.add_argument("--scaling", action="store_true", help="how time grows, on generated data")
    parser.add_argument("--axes", nargs="+", choices=list(GROWTH), default=list(GROWTH), help="of --scaling")
    arguments = parser.parse_args()
    with working_folder() as folder:
        (scaling if arguments.scaling else compare)(arguments, folder)


if __name__ == "__main__":
    main()
