"""Quality against training time: SessionBERT4Rec beside RecBole's BERT4Rec and SASRec.

    python benchmarks/quality_at_time.py --dataset ml-100k --seconds 600 --out results/quality_at_time
    python benchmarks/quality_at_time.py --dataset ml-1m-part --seconds 1800

Each model trains for ``--seconds`` of training time, or to the end of its ``epochs``, one after the other in this
process, with its default keys (``--set`` and ``--epochs`` change SessionBERT4Rec's). RecBole's models run in this
project's pipeline: the same split, the same evaluation. At growing time points, within epochs too, the clock stands
still and NDCG@10 among all items is taken on the validation split; nothing is chosen by it. Written are
``<out>-<dataset>.csv`` (every point), ``.md`` (time to the best that the worst of them ever reaches) and ``.png``.
"""

import argparse
import csv
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from recbole.utils import init_seed
from setting import SEED, ClockedLoader, build_ours, build_stock, describe, median, prepare_dataset, working_folder
from train import trainer_step

from recbole_session.config.values import parse_command_line

RECBOLE_MODELS = ("BERT4Rec", "SASRec")
MODELS = ("SessionBERT4Rec", *RECBOLE_MODELS)
COLORS = {"SessionBERT4Rec": "#0072b2", "BERT4Rec": "#d55e00", "SASRec": "#009e73"}


class BudgetSpent(Exception):
    """The training time is over."""


@dataclass
class Curve:
    """NDCG@10 among all items at times of training (seconds)."""

    name: str
    seconds: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """Highest value."""
        return max(self.values)


def first_time(curve: Curve, target: float) -> float | None:
    """Seconds of training until the curve first reaches ``target``; None where it never does."""
    return next((time for time, value in zip(curve.seconds, curve.values, strict=True) if value >= target), None)


def time_points(budget: float) -> list[float]:
    """Seconds at which to evaluate: every 200th of the budget at first, then each 8% later, the budget last."""
    points = [budget / 200]
    while points[-1] < budget:
        points.append(max(points[-1] + budget / 200, points[-1] * 1.08))
    return [*points[:-1], budget]


def watched(
    loader: Any,
    device: torch.device,
    points: Sequence[float],
    evaluate: Callable[[float, int], None],
    now: Callable[[], float] | None = None,
) -> ClockedLoader:
    """Wrap a loader so that it evaluates at the first step after each point, and ends training at the last of them."""
    due = list(points)

    def after_step(batch: Any) -> None:
        if clock.seconds < due[0]:
            return
        while due and clock.seconds >= due[0]:
            due.pop(0)
        evaluate(clock.seconds, clock.steps)
        if not due:
            raise BudgetSpent

    clock = ClockedLoader(loader, device, after_step, now=now)
    return clock


def train_watched(
    run: SimpleNamespace,
    points: Sequence[float],
    evaluate: Callable[[float, int], None],
    now: Callable[[], float] | None = None,
) -> None:
    """Train with the project's trainer until the last point or the end of ``epochs``, then evaluate once more."""
    clock = watched(run.train, run.config["device"], points, evaluate, now)
    init_seed(run.config["seed"], run.config["reproducibility"])
    try:
        run.trainer.fit(clock, None, saved=False, verbose=False, show_progress=False)
        evaluate(clock.seconds, clock.steps)
    except BudgetSpent:
        pass


# ---- beside RecBole's models


def measure_curve(name: str, run: SimpleNamespace, budget: float) -> Curve:
    curve = Curve(name)

    def evaluate(seconds: float, steps: int) -> None:
        metrics = run.evaluator.evaluate(run.model, run.valid, run.config["device"], ["all"]).metrics["all"]
        run.model.train()
        curve.seconds.append(seconds)
        curve.steps.append(steps)
        curve.values.append(metrics["ndcg@10"])
        print(f"{name}: {seconds:8.1f} s, {steps:6,} steps, ndcg@10 {metrics['ndcg@10']:.4f}", flush=True)

    train_watched(run, time_points(budget), evaluate)
    return curve


def stock_epoch(name: str, dataset: str, data_path: Path, folder: Path, steps: int) -> str:
    """Seconds of an epoch of RecBole alone, extrapolated from a few steps of its own Trainer."""
    stock = build_stock(name, dataset, data_path, folder)
    step = trainer_step(stock)
    step()
    seconds = median(step()[0] for _ in range(steps))
    n_steps = len(stock.train)
    return (f"- {name}: {seconds:.3f} s per step, {n_steps:,} steps, {seconds * n_steps:,.1f} s per epoch "
            f"(median of {steps} steps)")  # fmt: skip


def versus_recbole(arguments: argparse.Namespace, folder: Path) -> None:
    dataset = arguments.dataset
    data_path = prepare_dataset(dataset, folder)
    runs, curves, lines = {}, [], []
    for name in arguments.models:
        keys = ours_keys(arguments) if name == "SessionBERT4Rec" else {}
        runs[name] = build_ours(name, dataset, data_path, folder, **{"seed": SEED, **keys})
        lines.append(f"- {name}: {describe_recipe(runs[name])}")
        curves.append(measure_curve(name, runs[name], arguments.seconds))
    lines += ["", "RecBole alone, its own dataset, loaders and Trainer (anomaly detection off):", ""]
    stock = [name for name in arguments.models if name in RECBOLE_MODELS and arguments.stock_steps]
    lines += [stock_epoch(name, dataset, data_path, folder, arguments.stock_steps) for name in stock]
    run = next(iter(runs.values()))
    title = describe(dataset, run.config, run.data.user_num - 1, run.data.item_num - 1).split(";")
    out = Path(f"{arguments.out}-{dataset}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_points(out.with_name(out.name + ".csv"), curves)
    text = "\n".join([f"{title[0]};{title[-1]}", "", *table(curves), "", *lines, ""])
    out.with_name(out.name + ".md").write_text(text, encoding="utf-8")
    draw(out.with_name(out.name + ".png"), curves, f"{title[0]};{title[-1]}")
    print(f"\n{text}")


def describe_recipe(run: SimpleNamespace) -> str:
    keys = ("hidden_size", "n_layers", "MAX_ITEM_LIST_LENGTH", "train_batch_size", "learner", "learning_rate", "epochs")
    return ", ".join(f"{key} {run.config[key]}" for key in keys)


def ours_keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keys over SessionBERT4Rec's defaults."""
    keys = parse_command_line([f"--{entry}" for entry in arguments.set])
    return keys if arguments.epochs is None else {**keys, "epochs": arguments.epochs}


def table(curves: Sequence[Curve]) -> list[str]:
    """Time each model needs to the best that the worst of them ever reaches, and to its own best."""
    target = min(curve.best for curve in curves)
    first = first_time(curves[0], target) or float("nan")
    rows = [f"Validation NDCG@10 among all items; the target, {target:.4f}, is the lowest of the best values.", "",
            f"| model | training to the target | ratio to {curves[0].name} | best | reached after | trained | steps |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    for curve in curves:
        time, best = (first_time(curve, value) or float("nan") for value in (target, curve.best))
        cells = [curve.name, f"{time:.1f} s", f"{time / first:.1f}", f"{curve.best:.4f}", f"{best:.1f} s",
                 f"{curve.seconds[-1]:.1f} s", f"{curve.steps[-1]:,}"]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def write_points(path: Path, curves: Sequence[Curve]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "training_seconds", "steps", "ndcg@10"])
        for curve in curves:
            for seconds, steps, value in zip(curve.seconds, curve.steps, curve.values, strict=True):
                writer.writerow([curve.name, f"{seconds:.3f}", steps, f"{value:.6f}"])


def draw(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Curves over the logarithm of time, the target as a dotted line, a mark where each first reaches it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    target = min(curve.best for curve in curves)
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    for curve in curves:
        label = curve.name if curve.name not in RECBOLE_MODELS else f"{curve.name} (RecBole's)"
        axes.plot(curve.seconds, curve.values, color=COLORS[curve.name], linewidth=1.8, label=label)
        reached = first_time(curve, target)
        axes.plot([reached], [curve.values[curve.seconds.index(reached)]], "o", color=COLORS[curve.name])
    axes.axhline(target, color="0.5", linestyle=":", linewidth=1, label=f"target, {target:.4f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds of training (evaluation not counted)")
    axes.set_ylabel("validation NDCG@10, all items")
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.97))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # what is done is seen, in a pipe too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k", help="ml-100k (default), ml-1m-part, or one of atomic_data")
    parser.add_argument("--seconds", type=float, default=600.0, help="of training for each model")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="the first is compared with")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of SessionBERT4Rec")
    parser.add_argument("--epochs", type=int, help="of SessionBERT4Rec; its default may be over before --seconds")
    parser.add_argument("--stock_steps", type=int, default=3, help="timed steps of RecBole alone; 0 for none")
    parser.add_argument("--out", type=Path, default=Path("results/quality_at_time"), help="start of the files' names")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with working_folder() as folder:
        versus_recbole(arguments, folder)


if __name__ == "__main__":
    main()
