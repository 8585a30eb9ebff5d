"""A whole run of the paper's setting, to the last epoch or patience's end: time, share of the peak, and what comes out.

    python benchmarks/paper_run.py                                               # ml-1m-part, 800 epochs: for a GPU
    python benchmarks/paper_run.py --set enable_amp=True torch_compile=True
    python benchmarks/paper_run.py --set enable_amp=True epochs=5                # what a CPU manages in a minute

What is timed is what a user waits for once the data are loaded: training, a validation after every epoch, keeping and
writing the best epoch's weights, the test at the end. FLOP are the useful ones of `machine`, from the real tokens.
"""

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from machine import Shape, evaluation_flop, measure_peak, synchronize, training_flop
from setting import build_ours, describe, prepare_dataset, sequence_lengths, working_folder
from train import PAPER, chosen_items

from recbole_session.config.values import parse_command_line


def useful_flop(run: SimpleNamespace) -> tuple[float, float]:
    """FLOP of a training epoch and of a validation."""
    shape = Shape.of(run.config, run.model.n_items)
    count = chosen_items(run)
    training = sum(training_flop(shape, sequence_lengths(batch).tolist(), count(batch)) for batch in run.train)
    return training, sum(evaluation_flop(shape, sequence_lengths(batch).tolist()) for batch in run.valid)


def train_to_the_end(run: SimpleNamespace) -> tuple[float, float, dict[str, dict[str, float]]]:
    """Return the seconds of the training loop, those of the test, and the test metrics."""
    start = time.perf_counter()
    run.trainer.fit(run.train, run.valid, show_progress=False)
    synchronize(run.config["device"])
    trained = time.perf_counter()
    test = run.trainer.evaluate(run.test)
    return trained - start, time.perf_counter() - trained, test.metrics


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    keys = parse_command_line([f"--{entry}" for entry in arguments.set])
    data_path = prepare_dataset(arguments.dataset, folder)
    run = build_ours("SessionBERT4Rec", arguments.dataset, data_path, folder, arguments.config, **keys)
    config, trainer = run.config, run.trainer
    print(describe(arguments.dataset, config, run.data.user_num - 1, run.data.item_num - 1))
    print(", ".join([str(config["session_features"]), *arguments.set]))
    dtype = getattr(torch, config["amp_dtype"].lower()) if config["enable_amp"] else torch.float32
    peak, _ = measure_peak(config["device"], arguments.peak_seconds, dtype)
    seconds, test_seconds, metrics = train_to_the_end(run)
    epoch_flop, validation_flop = useful_flop(run)  # afterwards: it walks through the shuffled batches
    validations = trainer.epochs_run // config["eval_step"]
    rows = [
        ("all", seconds + test_seconds, trainer.epochs_run * epoch_flop + (validations + 1) * validation_flop),
        ("training", trainer.train_seconds, trainer.epochs_run * epoch_flop),
        ("validation, best weights", seconds - trainer.train_seconds, validations * validation_flop),
        ("test", test_seconds, validation_flop),
    ]
    print(f"{trainer.epochs_run} epochs of {len(run.train)} steps, the best is number {trainer.best_epoch + 1}; "
          f"measured peak {peak / 1e12:,.1f} TFLOP/s ({dtype} products)\n")  # fmt: skip
    print("| part | seconds | useful TFLOP | TFLOP/s | of the peak |\n|---|---|---|---|---|")
    for name, taken, flop in rows:
        speed = flop / taken
        print(f"| {name} | {taken:,.1f} | {flop / 1e12:,.2f} | {speed / 1e12:,.2f} | {speed / peak:.1%} |")
    print("\n| candidates | recall@10 | ndcg@10 |\n|---|---|---|")
    for name, values in metrics.items():
        print(f"| {name} | {values['recall@10']:.4f} | {values['ndcg@10']:.4f} |")


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-1m-part", help="ml-1m-part, ml-100k, or a folder of atomic_data")
    parser.add_argument("--config", type=Path, default=PAPER, help="keys of SessionBERT4Rec")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys over those of the file")
    parser.add_argument("--peak_seconds", type=float, default=1.0, help="of every matrix product")
    with working_folder() as folder:
        measure(parser.parse_args(), folder)


if __name__ == "__main__":
    main()
