"""Quality against CPU time: this project's models beside RecTools', on the same split, among all items.

    python -m venv rectools && rectools/bin/pip install torch==2.13.0 'rectools[torch]==0.19.0'
    OMP_NUM_THREADS=1 python benchmarks/peers.py --rectools_python rectools/bin/python --dataset ml-1m-part

One model after the other trains for ``--seconds`` of CPU time in one thread; this project's stop earlier if their
``epochs`` are over. Evaluation is not counted. At points on the way the target of every user is ranked among all items
(the user's own history stays in, equal scores count as better), on test also among the user's random and popular
negatives, and one function makes NDCG@10 from the ranks of both sides. RecTools' half, `peers_rectools.py`, runs in an
environment of its own and gets the split as three CSV files and the negatives as an array.

``<out>.csv`` keeps every point; a run replaces those of its dataset and ``--models``, so models can be run one by one.
``<out>.md`` and ``<out>.png`` show all of them. A model's test value at a time is that of its best validation so far.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from quality_at_time import train_watched
from setting import SEED, build_ours, prepare_dataset, working_folder

from recbole_session.data.dataset import SessionDataset

OURS = ("SessionSASRec", "SessionBERT4Rec")
RECTOOLS = ("SASRec", "BERT4Rec", "eSASRec", "HSTU")
LENGTHS = {"ml-1m-part": 200, "globo-part": 50}
KEYS = ["dataset", "model"]
SETS = ("random", "popular")  # beside all items
COLUMNS = [*KEYS, "cpu_seconds", "epochs", "valid", "test", *SETS]
TIMES = (30, 60, 100, 200, 400)
COLORS = {"SessionSASRec": "#0072b2", "SessionBERT4Rec": "#56b4e9", "SASRec": "#009e73", "BERT4Rec": "#999999",
          "eSASRec": "#d55e00", "HSTU": "#cc79a7"}  # fmt: skip


def ndcg(ranks: Iterable[int], k: int = 10) -> float:
    """Mean NDCG@k of users with one target each, from its ranks, the first being 1."""
    ranks = np.asarray(list(ranks))
    return float(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0).mean())


def split_rows(dataset: SessionDataset) -> dict[str, pd.DataFrame]:
    """Rows ``user item timestamp`` of train (all that training may see), valid and test (a target per user)."""
    sequences = dataset.sequences
    users = torch.arange(sequences.n_users).repeat_interleave(sequences.lengths)
    rows = pd.DataFrame({"user": users, "item": sequences.items, "timestamp": sequences.times})
    held_out = {split: rows.iloc[dataset.samples[split][1].numpy()] for split in ("valid", "test")}
    return {"train": rows.drop(index=[*held_out["valid"].index, *held_out["test"].index]), **held_out}


# ---- the two sides; each gives rows of seconds, epochs, ndcg on valid, and ndcg on test: all items, then SETS

Point = tuple[float, ...]


def measure_ours(model: str, arguments: argparse.Namespace, data_path: Path, folder: Path) -> list[Point]:
    dataset = arguments.dataset
    keys = {"seed": SEED, "use_gpu": False, "eval_candidates": ["all", *SETS], "valid_candidates": "all"}
    run = build_ours(model, dataset, data_path, folder, **keys, MAX_ITEM_LIST_LENGTH=LENGTHS.get(dataset, 100))
    points: list[Point] = []

    def evaluate(seconds: float, steps: int) -> None:
        values = [
            ndcg(ranks.tolist())
            for loader, sets in ((run.valid, ["all"]), (run.test, ["all", *SETS]))
            for ranks in run.evaluator.evaluate(run.model, loader, run.config["device"], sets).ranks.values()
        ]
        run.model.train()
        points.append((seconds, steps / len(run.train), *values))
        show(model, points[-1])

    times = np.geomspace(arguments.seconds / 100, arguments.seconds, arguments.points).tolist()
    train_watched(run, times, evaluate, now=time.process_time)
    return points


def measure_rectools(model: str, arguments: argparse.Namespace, data_path: Path, folder: Path) -> list[Point]:
    keys = {"use_gpu": False, "eval_candidates": ["all", *SETS]}
    run = build_ours("SessionSASRec", arguments.dataset, data_path, folder, **keys)
    for split, rows in split_rows(run.data).items():
        rows.to_csv(folder / f"{split}.csv", index=False)
    np.save(folder / "negatives.npy", np.stack([run.evaluator.negatives[name].numpy() for name in SETS]))
    out = folder / f"{model}.jsonl"
    script = Path(__file__).with_name("peers_rectools.py")
    length, seconds, n_items = LENGTHS.get(arguments.dataset, 100), arguments.seconds, run.data.item_num - 1
    command = [arguments.rectools_python, "-I", script, folder, model, "--out", out, "--seed", SEED]
    command += ["--seconds", seconds, "--max_length", length, "--n_items", n_items, "--every", arguments.every]
    subprocess.run([str(word) for word in command], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = pd.read_json(out, lines=True)
    ranks = ["valid", "test", *SETS]
    points = [(row["seconds"], row["epochs"], *(ndcg(row[name]) for name in ranks)) for _, row in lines.iterrows()]
    for point in points:
        show(model, point)
    return points


def show(model: str, point: Point) -> None:
    seconds, epochs, valid, test, *_ = point
    print(f"{model}: {seconds:7.1f} CPU s, {epochs:6.1f} epochs, ndcg@10 valid {valid:.4f}, test {test:.4f}")


# ---- points, table, plot


def read_points(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=COLUMNS)


def replace_points(path: Path, dataset: str, model: str, points: list[Point]) -> None:
    """Write the points of one model in place of its earlier ones."""
    old = read_points(path)
    new = pd.DataFrame([(dataset, model, *point) for point in points], columns=COLUMNS)
    kept = old[(old["dataset"] != dataset) | (old["model"] != model)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat([kept, new] if len(kept) else [new]).to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def chosen_test(points: pd.DataFrame, seconds: float = float("inf")) -> float:
    """Test value among all items where validation was best until then; nan before the first point."""
    seen = points[points["cpu_seconds"] <= seconds]
    return float("nan") if seen.empty else float(seen.loc[seen["valid"].idxmax(), "test"])


def worst_lead(points: pd.DataFrame, name: str, start: float) -> tuple[float, float]:
    """Smallest ratio of a model's chosen test value to RecTools' best one, over all times after start; and when."""
    own, peers = points[points["model"] == name], points[points["model"].isin(RECTOOLS)]
    times = sorted({start, *points.loc[points["cpu_seconds"] >= start, "cpu_seconds"]})
    ratios = []
    for at in times:
        best = max(np.nan_to_num(chosen_test(rows, at)) for _, rows in peers.groupby("model"))
        if best > 0:
            ratios.append((float(np.nan_to_num(chosen_test(own, at)) / best), at))
    return min(ratios)


def table(dataset: str, points: pd.DataFrame) -> list[str]:
    heads = ["model", "CPU s per epoch", "trained, CPU s", "best validation", "after CPU s", "test there", *SETS]
    times = [seconds for seconds in TIMES if seconds <= points["cpu_seconds"].max()]
    heads += [f"test at {seconds} s" for seconds in times]
    lines = [f"## {dataset}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for model in [name for name in (*OURS, *RECTOOLS) if name in set(points["model"])]:
        rows = points[points["model"] == model]
        last, best = rows.iloc[-1], rows.loc[rows["valid"].idxmax()]
        cells = [label(model), f"{last['cpu_seconds'] / last['epochs']:.1f}", f"{last['cpu_seconds']:.0f}",
                 f"{best['valid']:.4f}", f"{best['cpu_seconds']:.0f}", f"**{best['test']:.4f}**"]  # fmt: skip
        cells += [f"{best[name]:.4f}" for name in SETS]
        cells += [f"{chosen_test(rows, seconds):.4f}" for seconds in times]
        lines.append(f"| {' | '.join(cells).replace('nan', '-')} |")
    if OURS[0] in set(points["model"]) and set(RECTOOLS) & set(points["model"]):
        peers = points[points["model"].isin(RECTOOLS)].groupby("model")
        best_model, best_value = max(((name, chosen_test(rows)) for name, rows in peers), key=lambda pair: pair[1])
        ratio, at = worst_lead(points, OURS[0], start=30)
        lines += ["", f"At the end {OURS[0]} has {chosen_test(points[points['model'] == OURS[0]]) / best_value:.2f} "
                  f"times the test NDCG@10 of the best of RecTools' ({best_model}). After 30 CPU seconds its smallest "
                  f"lead over the best of them at the same time is {ratio:.2f} times, at {at:.0f} s."]  # fmt: skip
    return [*lines, ""]


def label(model: str) -> str:
    return model if model in OURS else f"{model} (RecTools)"


def draw(path: Path, points: pd.DataFrame) -> None:
    """A row of panels per dataset: validation, and test."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    datasets = list(dict.fromkeys(points["dataset"]))
    figure, panels = pyplot.subplots(len(datasets), 2, figsize=(9.6, 3.6 * len(datasets)), squeeze=False,
                                     sharey="row", layout="constrained")  # fmt: skip
    for dataset, row in zip(datasets, panels, strict=True):
        for split, axes in zip(("valid", "test"), row, strict=True):
            for model in [name for name in COLORS if name in set(points["model"])]:
                rows = points[(points["dataset"] == dataset) & (points["model"] == model)]
                style = {"color": COLORS[model], "linewidth": 1.6, "marker": "o", "markersize": 2.5}
                axes.plot(rows["cpu_seconds"], rows[split], label=label(model), **style)
            axes.set_title(f"{dataset}, {'validation' if split == 'valid' else split}", fontsize=9, loc="left")
            axes.set_xlabel("CPU seconds of training, one thread")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
        row[0].set_ylim(bottom=0)  # after both panels, whose axis is one
        row[0].set_ylabel("NDCG@10, all items")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # what is done is seen, in a pipe too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rectools_python", type=Path, help="Python of an environment with RecTools")
    parser.add_argument("--dataset", default="ml-100k", help="ml-100k (default), ml-1m-part, or one of atomic_data")
    parser.add_argument("--seconds", type=float, default=400.0, help="CPU seconds of training for each model")
    parser.add_argument("--points", type=int, default=18, help="evaluations of each of this project's models")
    parser.add_argument("--every", type=int, default=2, help="epochs of RecTools' models between two evaluations")
    parser.add_argument("--models", nargs="*", choices=[*RECTOOLS, *OURS], default=[*RECTOOLS, *OURS])
    parser.add_argument("--out", type=Path, default=Path("results/peers"), help="start of the files' names")
    arguments = parser.parse_args()
    if arguments.rectools_python is None and set(arguments.models) & set(RECTOOLS):
        parser.error("RecTools' models need --rectools_python; --models names those to run")
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    path = arguments.out.with_suffix(".csv")
    for model in arguments.models:
        with working_folder() as folder:
            measure = measure_ours if model in OURS else measure_rectools
            points = measure(model, arguments, prepare_dataset(arguments.dataset, folder), folder)
        replace_points(path, arguments.dataset, model, points)
    points_of_all = read_points(path)
    sections = [table(dataset, rows) for dataset, rows in points_of_all.groupby("dataset", sort=False)]
    text = "\n".join(line for section in sections for line in section)
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(arguments.out.with_suffix(".png"), points_of_all)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
