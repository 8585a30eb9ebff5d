"""Tiny trained models, each trained once for all tests of this folder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from recbole_session.run.training import run_session
from tests.conftest import TINY_MODEL, Row, random_rows

SMALL = {"epochs": 1, "hidden_size": 8, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 8, "n_layers": 1}
ROWS = random_rows(n_users=15, n_items=40, seed=3)
COLUMNS = ["user_id:token", "item_id:token", "timestamp:float", "session_id:token"]

# Names that would break a CSV file, a Markdown table, a terminal or a formula of matplotlib; i0 and i1 have none.
TITLES = {"i0": "", **{f"i{place}": f'Tom, "$1" | $x_{place}$ \x1b[2J' for place in range(2, 40)}, "unknown": "Nobody"}

TrainToy = Callable[..., Path]


def write_rows(folder: Path, rows: list[Row]) -> None:
    lines = ["\t".join(COLUMNS[: len(rows[0])]), *("\t".join(map(str, row)) for row in rows)]
    (folder / "toy").mkdir(parents=True)
    (folder / "toy" / "toy.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def train_toy(tmp_path_factory: pytest.TempPathFactory) -> TrainToy:
    """Train a model on ROWS, or on ROWS with session ids of their own, and return its run folder."""

    @cache
    def train(
        model: str | type = "SessionBERT4Rec", features: tuple[str, ...] = ("ST", "SSE", "TSA"), **keys: object
    ) -> Path:
        folder = tmp_path_factory.mktemp("toy")
        write_rows(folder / "data", with_sessions(ROWS) if keys.pop("own_sessions", False) else ROWS)
        if keys.pop("titled", False):
            lines = ["item_id:token\tyear:float\tmovie_title:token_seq", *(f"{i}\t1\t{t}" for i, t in TITLES.items())]
            (folder / "data" / "toy" / "toy.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
        values = {"data_path": str(folder / "data"), "checkpoint_dir": str(folder / "saved"), "num_negatives": 10}
        values |= {**TINY_MODEL, "session_features": list(features)} if model == "SessionBERT4Rec" else SMALL
        if model == "Pop":
            values = {key: value for key, value in values.items() if key not in SMALL}
        keys = {key: yaml.safe_load(value) if isinstance(value, str) else value for key, value in keys.items()}
        return Path(run_session(model, "toy", config_dict={**values, **keys})["run_folder"])

    return train


def with_sessions(rows: list[Row]) -> list[Row]:
    """Sessions that have nothing to do with silence: three rows each, counted over a user's rows in time."""
    places: dict[object, int] = {}
    numbered = {}
    for row in sorted(rows, key=lambda row: row[2]):
        numbered[row] = places[row[0]] = places.get(row[0], -1) + 1
    return [(*row, f"{row[0]}-{numbered[row] // 3}") for row in rows]


def histories_and_targets(rows: list[Row]) -> dict[str, tuple[list[Row], Row]]:
    """By user: the rows before the latest one, in the order of the file, and the latest row."""
    by_user: dict[str, list[Row]] = {}
    for row in rows:
        by_user.setdefault(str(row[0]), []).append(row)
    split = {}
    for user, own in by_user.items():
        latest = max(own, key=lambda row: row[2])
        split[user] = ([row for row in own if row is not latest], latest)
    return split
