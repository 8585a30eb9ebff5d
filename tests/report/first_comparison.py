"""A comparison made by hand, without training, whose report by the first version is kept in ``golden/``."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

DAY = 86_400
N_USERS = 60
SIZES = {"random": 101, "popular": 101, "all": 200}
# Of each row: its seeds, how far up it moves the ranks, and those of its seeds whose context is audited.
ROWS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    "base": ((1, 2, 3), 0, (1, 2)),
    "better": ((1, 2, 3), 14, (1, 2)),
    "worse": ((1, 2), -12, (1,)),
    "single": ((1,), 9, ()),
    "nearly": ((2, 3), 1, ()),
    "broken": ((), 0, ()),
    "absent": ((), 0, ()),
}


def write_data(folder: Path) -> list[tuple[str, str]]:
    """Write dataset ``toy``; returns its users and their targets."""
    draw = random.Random(7)
    lines, targets = ["user_id:token\titem_id:token\ttimestamp:float"], []
    for user in range(N_USERS):
        time = 1_500_000_000 + draw.randrange(10**6)
        for _ in range(draw.randrange(4, 30)):
            item = f"i{int(200 * draw.random() ** 2)}"
            lines.append(f"u{user:02}\t{item}\t{time}")
            time += draw.choice((20, 600, 2 * 3600, 2 * DAY, 9 * DAY)) + draw.randrange(1, 20)
        targets.append((f"u{user:02}", item))
    (folder / "toy").mkdir(parents=True)
    (folder / "toy" / "toy.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return targets


def metrics_of(ranks: Sequence[int]) -> dict[str, float]:
    """Recall@10 and NDCG@10 of the ranks, and two metrics that ranks do not decide."""
    hits = [rank for rank in ranks if rank <= 10]
    ndcg = sum(1 / math.log2(rank + 1) for rank in hits)
    others = {"itemcoverage@10": round(sum(ranks) % 97 / 97, 4), "giniindex@10": round(sum(ranks) % 89 / 89, 4)}
    return {"recall@10": len(hits) / len(ranks), "ndcg@10": ndcg / len(ranks), **others}


def write_run(folder: Path, data: Path, row: str, seed: int, targets: list[tuple[str, str]]) -> None:
    """Write the folder of a finished run, with an audit where its row has one."""
    _, lift, audited = ROWS[row]
    taste, draw = random.Random(1), random.Random(f"{row} {seed}")
    likes = [{name: taste.randrange(1, size // 2) for name, size in SIZES.items()} for _ in targets]
    folder.mkdir(parents=True)
    contexts = ("told", "inferred", "withheld") if seed in audited else ("told",)
    metrics = {}
    for number, context in enumerate(contexts):
        ranks = {
            name: [min(size, max(1, own[name] - lift + 4 * number + draw.randrange(-3, 4))) for own in likes]
            for name, size in SIZES.items()
        }
        columns = [f"{kind}_{name}" for name in SIZES for kind in ("rank", "candidates")]
        lines = [",".join(("user_id", "item_id", *columns))]
        for place, (user, item) in enumerate(targets):
            values = [value for name, size in SIZES.items() for value in (ranks[name][place], size)]
            lines.append(",".join(map(str, (user, item, *values))))
        file = "ranks.csv" if context == "told" else f"ranks-{context}.csv"
        (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
        metrics[context] = {name: metrics_of(values) for name, values in ranks.items()}
    if len(contexts) > 1:
        facts = ("targets", "told_new_session", "inferred_new_session", "inferred_right", "inferred_time_error")
        (folder / "context.json").write_text(json.dumps(metrics | dict.fromkeys(facts, 0)), encoding="utf-8")
    result = {
        "model": "SASRec", "session_features": None, "dataset": "toy", "dataset_checksum": "", "seed": seed,
        "num_parameters": 1000 + len(row), "num_users": N_USERS, "num_items": 200, "best_epoch": 2 + seed,
        "epochs_run": 6, "train_seconds": 2.0 + seed, "eval_seconds": 0.5, "valid": {"all": {"ndcg@10": 0.1}},
        "test": metrics["told"], "environment": {"device": "cpu", "threads": 1, "processes": 1},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    keys = {
        "model": "SASRec", "dataset": "toy", "data_path": str(data), "seed": seed, "valid_metric": "NDCG@10",
        "valid_candidates": "all", "num_negatives": 100, "hidden_size": 8 + abs(lift), "inner_size": 16,
        "n_heads": 2, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")


def write_comparison(base: Path) -> Path:
    """Write the dataset, the runs and the comparison under ``base``; returns the folder of the comparison."""
    targets = write_data(base / "data")
    runs = base / "saved" / "toy"
    entries: list[dict[str, Any]] = []
    for row, (seeds, _, _) in ROWS.items():
        for seed in seeds:
            write_run(runs / f"{row}-{seed}", base / "data", row, seed, targets)
            entries.append({"row": row, "seed": seed, "folder": f"../{row}-{seed}"})
    entries += [{"row": "broken", "seed": seed, "failure": "out of memory"} for seed in (1, 2)]
    folder = runs / "comparison-first"
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps(entries), encoding="utf-8")
    keys = {"model": "SASRec", "epochs": 6}
    plan = {"baseline": "base", "seeds": [1, 2, 3], "keys": keys, "runs": [{"name": name} for name in ROWS]}
    (folder / "comparison.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    return folder


def write_checksums(comparison: Path) -> None:
    """Put the checksum of the dataset, as it is computed now, into the results of a comparison."""
    from recbole_session.run.checkpoint import dataset_checksum
    from recbole_session.run.run import Run

    files = sorted(comparison.parent.glob("*/result.json"))
    checksum = dataset_checksum(Run(files[0].parent).dataset(may_differ=True))
    for file in files:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dataset_checksum": checksum}), encoding="utf-8")


if __name__ == "__main__":  # python tests/report/first_comparison.py FOLDER; recbole-session report then reads it
    import sys

    print(write_comparison(Path(sys.argv[1])))
