"""Run folders made by hand: results and ranks without training."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from recbole_session.run.folder import CONTEXTS, ranks_file
from recbole_session.run.ranks import metric_of_ranks
from recbole_session.run.run import _FACTS, Run

MakeRun = Callable[..., Run]
METRICS = ("recall@10", "ndcg@10")


def write_contexts(folder: Path) -> None:
    """Write the ``context.json`` that belongs to the files of ranks; a context without one is as told."""
    content: dict[str, object] = dict.fromkeys(_FACTS, 0)
    for context in CONTEXTS:
        path = folder / ranks_file(context)
        frame = pd.read_csv(path if path.exists() else folder / ranks_file("told"))
        content[context] = {
            name.removeprefix("rank_"): {m: float(metric_of_ranks(frame[name].to_numpy(), m).mean()) for m in METRICS}
            for name in frame
            if name.startswith("rank_")
        }
    (folder / "context.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder with ``result.json``, ``ranks.csv`` and ``config.yaml``; ``ranks`` by candidate set."""

    def make(
        name: str,
        ranks: Mapping[str, Sequence[int]],
        seed: int = 2020,
        users: Sequence[str] | None = None,
        items: Sequence[str] | None = None,
        config: Mapping[str, object] | None = None,
        dataset: str = "toy",
        **result: object,
    ) -> Run:
        n = len(next(iter(ranks.values())))
        folder = tmp_path / "runs" / f"{len(list((tmp_path / 'runs').glob('*')))}"
        folder.mkdir(parents=True)
        frame = {"user_id": users or [f"u{i:03}" for i in range(n)], "item_id": items or [f"i{i}" for i in range(n)]}
        for candidates, values in ranks.items():
            frame |= {f"rank_{candidates}": values, f"candidates_{candidates}": [101] * n}
        pd.DataFrame(frame).to_csv(folder / "ranks.csv", index=False)
        test = {
            candidates: {metric: float(np.mean(metric_of_ranks(np.array(values), metric))) for metric in METRICS}
            for candidates, values in ranks.items()
        }
        content = {
            "model": "SessionBERT4Rec", "session_features": [], "dataset": dataset, "seed": seed,
            "dataset_checksum": "",
            "num_parameters": 1234, "num_users": n, "num_items": 50, "best_epoch": 3, "epochs_run": 6,
            "train_seconds": 2.0, "eval_seconds": 0.5, "valid": {}, "test": test,
            "environment": {"device": "cpu", "threads": 1},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(content | result), encoding="utf-8")
        keys = {"model": "SessionBERT4Rec", "dataset": dataset, "seed": seed, "session_features": []}
        (folder / "config.yaml").write_text(yaml.safe_dump(keys | dict(config or {})), encoding="utf-8")
        return Run(folder, name)

    return make
