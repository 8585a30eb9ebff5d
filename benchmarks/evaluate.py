"""One evaluation of the test split: all candidate sets from one pass, beside plain passes and RecBole's own.

    python benchmarks/evaluate.py                                # the paper's ML-1M setting on ml-1m-part
    python benchmarks/evaluate.py --dataset ml-100k --recbole SASRec
    python benchmarks/evaluate.py --only catalogue --items 1000000    # memory with a large catalogue

Three comparisons, each in turns and in one process, medians printed:

plain
    SessionBERT4Rec among random, popular and all items: `RankingEvaluator`'s one pass, against three passes of the
    plain reference, one per candidate set, in batches of ``train_batch_size``. The ranks are compared too.
recbole
    The same weights of a model of RecBole (its default keys): `RankingEvaluator`'s three sets, against RecBole's
    ``Trainer.evaluate`` with ``uni100`` and with ``pop100``.
catalogue
    One pass over generated data with many items: seconds and memory.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from machine import Shape, evaluation_flop, measure_peak, synchronize
from plain_bert4rec import PlainBERT4Rec, evaluate_pass
from setting import (
    build_ours,
    build_stock,
    describe,
    generate_dataset,
    median,
    peak_memory,
    prepare_dataset,
    sequence_lengths,
    working_folder,
)
from train import PAPER

from recbole_session.config.values import parse_command_line

COMPARISONS = ("plain", "recbole", "catalogue")
SETS = ["random", "popular", "all"]


def take_turns(
    evaluations: Mapping[str, Callable[[], Any]], repetitions: int, device: torch.device
) -> tuple[dict[str, float], dict[str, str], dict[str, Any]]:
    """Median seconds, memory of the first time, and its results, of evaluations taken in turn.

    The first time counts only where there are no repetitions.
    """
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in evaluations}
    memory, results = {}, {}
    for name, evaluate in evaluations.items():
        with peak_memory(device) as peak:
            start = time.perf_counter()
            results[name] = evaluate()
            synchronize(device)
            first[name] = time.perf_counter() - start
        memory[name] = str(peak)
    for _ in range(repetitions):
        for name, evaluate in evaluations.items():
            start = time.perf_counter()
            evaluate()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values or [first[name]]) for name, values in seconds.items()}, memory, results


def one_pass(run: SimpleNamespace) -> Callable[[], Any]:
    return lambda: run.evaluator.evaluate(run.model, run.test, run.config["device"], SETS)


def print_table(seconds: Mapping[str, float], memory: Mapping[str, str], n_users: int) -> None:
    first = next(iter(seconds.values()))
    print("| evaluation | seconds | users/s | memory | ratio |\n|---|---|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.3f} | {n_users / value:,.0f} | {memory[name]} | {value / first:.1f} |")


# ---- against the plain reference


def against_plain(arguments: argparse.Namespace, data_path: Path, folder: Path) -> None:
    keys = parse_command_line([f"--{entry}" for entry in arguments.set])
    run = build_ours("SessionBERT4Rec", arguments.dataset, data_path, folder, arguments.config, **keys)
    batch_size = {"eval_batch_size": run.config["train_batch_size"]}
    plain_run = build_ours("SessionBERT4Rec", arguments.dataset, data_path, folder, arguments.config,
                           **{**keys, **batch_size})  # fmt: skip
    device = run.config["device"]
    plain = PlainBERT4Rec(run.config, run.model.n_items).to(device)
    plain.load_state_dict(run.model.state_dict())
    fields = (run.data.uid_field, run.data.iid_field)

    def three_passes() -> dict[str, torch.Tensor]:
        return {name: evaluate_pass(plain, plain_run.test, run.evaluator.negatives[name], *fields) for name in SETS}

    names = ("one pass, three sets", "plain, three passes")
    seconds, memory, results = take_turns(
        dict(zip(names, (one_pass(run), three_passes), strict=True)), arguments.repetitions, device
    )
    print(describe(arguments.dataset, run.config, run.data.user_num - 1, run.data.item_num - 1))
    print_table(seconds, memory, len(run.test._dataset))
    ours, theirs = results[names[0]].ranks, results[names[1]]
    differing = sum(int((ours[name] != theirs[name]).sum()) for name in SETS)
    print(f"\n{differing} of {sum(map(len, ours.values())):,} ranks differ (scores equal up to rounding)")
    peak, _ = measure_peak(device, arguments.peak_seconds)
    flop = evaluation_flop(
        Shape.of(run.config, run.model.n_items), torch.cat([sequence_lengths(batch) for batch in run.test]).tolist()
    )
    speed = flop / seconds[names[0]]
    print(f"useful work {flop / 1e9:,.1f} GFLOP, {speed / 1e9:,.1f} GFLOP/s, {speed / peak:.1%} of the measured peak, "
          f"{peak / 1e9:,.0f} GFLOP/s\n")  # fmt: skip


# ---- against RecBole


def against_recbole(arguments: argparse.Namespace, data_path: Path, folder: Path) -> None:
    run = build_ours(arguments.recbole, arguments.dataset, data_path, folder)
    evaluations = {"one pass, three sets": one_pass(run)}
    for mode in ("uni100", "pop100"):
        stock = build_stock(arguments.recbole, arguments.dataset, data_path, folder, mode)
        stock.model.load_state_dict(run.model.state_dict())
        evaluations[f"RecBole {mode}"] = recbole_evaluation(stock)
    seconds, memory, results = take_turns(evaluations, arguments.repetitions, run.config["device"])
    name, mode = "RecBole uni100 + pop100", "RecBole uni100"
    seconds[name] = seconds[mode] + seconds["RecBole pop100"]
    memory[name] = "-"
    print(f"{arguments.recbole} of RecBole, "
          + describe(arguments.dataset, run.config, run.data.user_num - 1, run.data.item_num - 1))  # fmt: skip
    print_table(seconds, memory, len(run.test._dataset))
    ours = results["one pass, three sets"].metrics["random"]["ndcg@10"]
    print(f"\nuntrained weights, ndcg@10 among random: {ours:.4f} here, {results[mode]['ndcg@10']:.4f} in RecBole, "
          f"which draws other negatives; its users: {len(stock.test.uid_list):,}\n")  # fmt: skip


def recbole_evaluation(stock: SimpleNamespace) -> Callable[[], Any]:
    return lambda: stock.trainer.evaluate(stock.test, load_best_model=False)


# ---- a large catalogue


def catalogue(arguments: argparse.Namespace, folder: Path) -> None:
    name = "catalogue"
    rows = -(-arguments.items // arguments.users)
    generate_dataset(folder, name, arguments.users, arguments.items, rows)
    keys = parse_command_line([f"--{entry}" for entry in arguments.set])
    run = build_ours("SessionBERT4Rec", name, folder, folder, **{"MAX_ITEM_LIST_LENGTH": 50, **keys})
    weights = sum(parameter.numel() * parameter.element_size() for parameter in run.model.parameters())
    seconds, memory, _ = take_turns(
        {"one pass, three sets": one_pass(run)}, arguments.repetitions, run.config["device"]
    )
    print(describe("generated", run.config, run.data.user_num - 1, run.data.item_num - 1))
    print_table(seconds, memory, len(run.test._dataset))
    n_scores = run.config["eval_batch_size"] * run.data.item_num
    print(f"\nmodel {weights / 2**20:,.0f} MiB; all scores of a batch of {run.config['eval_batch_size']} would be "
          f"{n_scores * 4 / 2**20:,.0f} MiB")  # fmt: skip


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # what is done is seen, in a pipe too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-1m-part", help="ml-1m-part, ml-100k, or a folder of atomic_data")
    parser.add_argument("--config", type=Path, default=PAPER, help="keys of SessionBERT4Rec")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys over those of the file")
    parser.add_argument("--recbole", default="BERT4Rec", help="model of RecBole, e.g. SASRec")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--repetitions", type=int, default=3, help="of each, in turn, after a first time")
    parser.add_argument("--peak_seconds", type=float, default=1.0, help="of every matrix product")
    parser.add_argument("--items", type=int, default=1_000_000, help="of the large catalogue")
    parser.add_argument("--users", type=int, default=2000, help="of the large catalogue")
    arguments = parser.parse_args()
    with working_folder() as folder:
        if {"plain", "recbole"} & set(arguments.only):
            data_path = prepare_dataset(arguments.dataset, folder)
        if "plain" in arguments.only:
            against_plain(arguments, data_path, folder)
        if "recbole" in arguments.only:
            against_recbole(arguments, data_path, folder)
        if "catalogue" in arguments.only:
            catalogue(arguments, folder)


if __name__ == "__main__":
    main()
