"""Tiny comparisons: keys that train within a second, and a report of nothing but metrics."""

import hashlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from recbole_session.compare.runs import Comparison
from tests.processes import keys_of

PLAN = """\
baseline: plain
seeds: 2
runs:
- {name: plain, model: SessionBERT4Rec, session_features: []}
- {model: SessionBERT4Rec, session_features: [ST, TSA], hidden_dropout_prob: 0.3}
"""
ROWS = ("plain", "SessionBERT4Rec [ST, TSA], hidden_dropout_prob = 0.3")


def arguments(base: Path, *options: str, plan: str = PLAN, **keys: object) -> list[str]:
    """Command line of a comparison on dataset ``toy`` under ``base``."""
    file = base / "mine.yaml"
    file.write_text(plan, encoding="utf-8")
    values = {key: value for key, value in keys_of(base).items() if key != "hidden_dropout_prob"} | keys
    given = [f"--{key}={json.dumps(value)}" for key, value in values.items()]
    return ["compare", "--dataset=toy", f"--plan={file}", "--no_context", *options, *given]


def write_metrics(comparison: Comparison, folder: Path) -> list[Path]:
    """Stand in for the report: every metric and the ranks, without the clocks."""
    lines = []
    for name in comparison.names:
        for run in comparison.runs_of(name):
            ranks = hashlib.sha256((run.folder / "ranks.csv").read_bytes()).hexdigest()
            lines.append(json.dumps([name, run.seed, run.result["valid"], run.result["test"], ranks]))
    lines += [f"failed: {cell}: {reason}" for cell, reason in comparison.failures.items()]
    (folder / "metrics.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(comparison.settings), encoding="utf-8")
    return [folder / "metrics.txt"]


def install_report() -> None:
    """Let the command find `write_metrics` as its report, in this process."""
    module = ModuleType("recbole_session.report.report")
    module.write_report = write_metrics  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module


def read_table(base: Path, name: str = "mine") -> bytes:
    return (base / "saved" / "toy" / f"comparison-{name}" / "metrics.txt").read_bytes()


def read_tables(base: Path, name: str = "mine") -> dict[str, bytes]:
    """Files of the real report that hold no clock and no path."""
    folder = base / "saved" / "toy" / f"comparison-{name}"
    files = ["table.md", "table.tex", "table.csv", "significance.csv", "slices.csv"]
    return {file: (folder / file).read_bytes() for file in files}


def read_entries(base: Path, name: str = "mine") -> list[dict[str, Any]]:
    return json.loads((base / "saved" / "toy" / f"comparison-{name}" / "runs.json").read_text())


def run_folders(base: Path) -> list[Path]:
    return sorted(path.parent for path in (base / "saved" / "toy").glob("*/config.yaml"))
