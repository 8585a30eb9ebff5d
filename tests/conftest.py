"""Small datasets and configurations that every test file shares."""

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch

from recbole_session.cli import main
from recbole_session.compat import import_recbole_models
from recbole_session.config.session_config import SessionConfig
from recbole_session.data.dataset import SessionDataset

torch.set_num_threads(1)  # the tests run in several processes
import_recbole_models()  # before a test imports one by itself, which would switch anomaly detection on for all

DAY = 86_400

# Enough for one step on the CPU within milliseconds.
TINY_MODEL = {
    "n_layers": 2,
    "n_heads": 2,
    "hidden_size": 8,
    "inner_size": 16,
    "temporal_dim": 4,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "MAX_ITEM_LIST_LENGTH": 8,
    "train_batch_size": 4,
    "epochs": 1,
}

Row = tuple[object, ...]
WriteDataset = Callable[..., Path]
BuildConfig = Callable[..., SessionConfig]


@pytest.fixture
def write_dataset(tmp_path: Path) -> WriteDataset:
    """Write rows ``(user, item, timestamp[, session])`` as dataset ``toy``; returns the path of its .inter file."""

    def write(rows: Iterable[Row], name: str = "toy", header: str | None = None) -> Path:
        rows = list(rows)
        columns = ["user_id:token", "item_id:token", "timestamp:float", "session_id:token"]
        path = tmp_path / "data" / name / f"{name}.inter"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [header if header is not None else "\t".join(columns[: len(rows[0]) if rows else 3])]
        lines += ["\t".join(map(str, row)) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread: sums over two may be split in another way in another process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build_config(tmp_path: Path) -> BuildConfig:
    """Build the configuration of a tiny model on dataset ``toy``; keyword arguments are keys."""

    def build(model: str | type = "SessionBERT4Rec", dataset: str = "toy", **keys: object) -> SessionConfig:
        values: dict[str, object] = {
            "data_path": str(tmp_path / "data"),
            "checkpoint_dir": str(tmp_path / "saved"),
            "use_gpu": False,
        }
        if model == "SessionBERT4Rec":
            values.update(TINY_MODEL)
        return SessionConfig(model, dataset, config_dict={**values, **keys})

    return build


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Run the command line with DATA_PATH in a temporary folder; return exit code, output, errors."""

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([*map(str, argv), "--data_path", str(tmp_path / "atomic_data")])
        except SystemExit as leaving:  # argparse
            code = leaving.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let every file end at a number of bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def random_rows(n_users: int = 12, n_items: int = 30, seed: int = 0, shortest: int = 4, longest: int = 15) -> list[Row]:
    """Rows of users with sessions of a few items, a day and more apart, in no order at all."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    rows: list[Row] = []
    for user in range(n_users):
        time = 900_000_000 + draw(0, 10_000_000)
        for _ in range(draw(shortest, longest + 1)):
            rows.append((f"u{user}", f"i{draw(0, n_items)}", time))
            time += draw(1, 500) if draw(0, 3) else 2 * DAY + draw(0, 1000)
    order = torch.randperm(len(rows), generator=generator).tolist()
    return [rows[index] for index in order]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shared_folder() -> Path:
    """Folder beside the checkout with data that may not be copied into it."""
    return Path(os.environ.get("RECBOLE_SESSION_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def build_views(config: SessionConfig) -> dict[str, SessionDataset]:
    """Load the dataset of ``config`` and return its views by split."""
    return dict(zip(("train", "valid", "test"), SessionDataset(config).build(), strict=True))
