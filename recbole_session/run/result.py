"""What a run leaves behind: result.json, ranks.csv and the table."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from recbole_session.data.dataset import SessionDataset
from recbole_session.distributed import process_count
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.files import replacing
from recbole_session.run.trainer import SessionTrainer

Result = dict[str, Any]


def build_result(
    config: Any,
    dataset: SessionDataset,
    model: nn.Module,
    trainer: SessionTrainer,
    test: SplitRanks,
    eval_seconds: float,
    checksum: str,
) -> Result:
    """Return the content of result.json; metric values are unrounded, ``checksum`` is that of the dataset."""
    return {
        "model": config["model"],
        "session_features": config["session_features"],
        "dataset": config["dataset"],
        "dataset_checksum": checksum,
        "seed": config["seed"],
        "num_parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "num_users": dataset.user_num - 1,
        "num_items": dataset.item_num - 1,
        "best_epoch": trainer.best_epoch,
        "epochs_run": trainer.epochs_run,
        "train_seconds": trainer.train_seconds,
        "eval_seconds": eval_seconds,
        "valid": {config["valid_candidates"]: trainer.best_valid_result},
        "test": test.metrics,
        "environment": {
            **{name: version(name) for name in ("recbole-session", "recbole", "torch", "numpy", "pandas")},
            "python": platform.python_version(),
            "device": str(config["device"]),
            "threads": torch.get_num_threads(),
            "processes": process_count(),
        },
    }


def write_result(run_folder: Path, result: Result) -> None:
    """Write result.json."""
    with replacing(run_folder / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def ranks_table(dataset: SessionDataset, split: SplitRanks) -> str:
    """CSV text: per user the target and, for every candidate set, its rank and how many candidates there were."""
    columns = {
        "user_id": dataset.id2token(dataset.uid_field, split.users.numpy()),
        "item_id": dataset.id2token(dataset.iid_field, split.items.numpy()),
    }
    for name, ranks in split.ranks.items():
        columns[f"rank_{name}"] = ranks.numpy()
        columns[f"candidates_{name}"] = split.n_candidates[name].numpy()
    return pd.DataFrame(columns).to_csv(index=False)


def write_ranks(run_folder: Path, dataset: SessionDataset, split: SplitRanks, file_name: str = "ranks.csv") -> None:
    """Write `ranks_table` into a run folder."""
    with replacing(run_folder / file_name) as temporary:
        temporary.write_text(ranks_table(dataset, split), encoding="utf-8")


def format_table(result: Result, decimals: int) -> str:
    """Return the test metrics as text, a line per candidate set."""
    metrics = list(next(iter(result["test"].values())))
    width = max(10, *map(len, result["test"])) + 2
    features = f" [{', '.join(result['session_features'])}]" if result["session_features"] is not None else ""
    lines = [
        f"{result['model']}{features} on {result['dataset']}: {result['num_users']:,} users, "
        f"{result['num_items']:,} items, {result['num_parameters']:,} parameters",
        f"test, epoch {result['best_epoch'] + 1} of {result['epochs_run']} chosen on validation, "
        f"{result['train_seconds']:.0f} s of training, {result['eval_seconds']:.1f} s of evaluation",
        "",
        "candidates".ljust(width) + "".join(name.rjust(len(name) + 3).rjust(12) for name in metrics),
    ]
    for name, values in result["test"].items():
        cells = (f"{values[metric]:.{decimals}f}".rjust(max(12, len(metric) + 3)) for metric in metrics)
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)
