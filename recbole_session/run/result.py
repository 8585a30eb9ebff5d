"""`result.json`, and the table that is printed from it; `Run` reads it back."""

import platform
from importlib.metadata import version
from typing import Any

import torch

from recbole_session.distributed import process_count
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.run.build import Parts
from recbole_session.run.trainer import SessionTrainer

Result = dict[str, Any]


def build_result(parts: Parts, trainer: SessionTrainer, test: SplitRanks, eval_seconds: float) -> Result:
    """Return the content of result.json; metric values are unrounded."""
    config, dataset = parts.config, parts.dataset
    return {
        "model": config["model"],
        "session_features": config["session_features"],
        "dataset": config["dataset"],
        "dataset_checksum": parts.checksum,
        "seed": config["seed"],
        "num_parameters": sum(parameter.numel() for parameter in parts.model.parameters() if parameter.requires_grad),
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


def format_table(result: Result, decimals: int) -> str:
    """Return the test metrics as text, a line per candidate set."""
    metrics = list(next(iter(result["test"].values())))
    width = max(10, *map(len, result["test"])) + 2
    features = f" [{', '.join(result['session_features'])}]" if result["session_features"] is not None else ""
    chosen = "chosen on validation" if any(result["valid"].values()) else "(nothing to validate on)"
    lines = [
        f"{result['model']}{features} on {result['dataset']}: {result['num_users']:,} users, "
        f"{result['num_items']:,} items, {result['num_parameters']:,} parameters",
        f"test, epoch {result['best_epoch'] + 1} of {result['epochs_run']} {chosen}, "
        f"{result['train_seconds']:.0f} s of training, {result['eval_seconds']:.1f} s of evaluation",
    ]
    if epochs := result.get("refit_epochs"):
        lines.append(f"refit.pth, trained on all rows for {epochs} epochs, is for use and is not tested")
    lines += ["", "candidates".ljust(width) + "".join(name.rjust(len(name) + 3).rjust(12) for name in metrics)]
    for name, values in result["test"].items():
        cells = (f"{values[metric]:.{decimals}f}".rjust(max(12, len(metric) + 3)) for metric in metrics)
        lines.append(name.ljust(width) + "".join(cells))
    return "\n".join(lines)
