"""What `recommend` answers: which items are best, the plain data that comes back, and the files that it goes to."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from recbole_session.errors import needs


@dataclass(frozen=True)
class Recommendation:
    """What to show one user.

    Attributes
    ----------
    items : list of str
        Raw ids, best first; fewer than ``k`` where no more are left.
    scores : list of float
        The model's scores (logits) of these items; with ``source="popular"`` how many rows of the dataset
        hold the item.
    source : "model" or "popular"
        ``"popular"``: the history held no known item, and these are the most popular ones.
    new_session : bool
        Whether the answer is for the first item of a new session.
    skipped : int
        Events whose item the model does not know.
    titles : list of str
        Names of the items; empty if the dataset names no items.
    """

    items: list[str]
    scores: list[float]
    source: Literal["model", "popular"]
    new_session: bool
    skipped: int
    titles: list[str] = field(default_factory=list)


def best_items(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ``k`` best items of each row; of equal scores the smaller id goes first, chosen or listed.

    ``torch.topk`` leaves open which of equal scores it takes, and a stable sort of everything takes
    ``n log n``; here the sort is of ``k`` items.

    ``scores`` are ``[B, n_items]``, -inf or not a number for what may not be recommended, and ``k`` is at most
    ``n_items``. Items, int64 ``[B, k]``, best first, and their scores come back, -inf where nothing is left.
    """
    scores = scores.masked_fill(scores.isnan(), float("-inf"))
    threshold = scores.topk(k, dim=1).values[:, -1:]  # [B, 1]
    above, at = scores > threshold, scores == threshold
    room = k - above.sum(1, keepdim=True)
    chosen = above | (at & (at.cumsum(1) <= room))  # exactly k per row
    items = chosen.nonzero()[:, 1].view(-1, k)  # by id
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order), values


Answer = tuple[str, Recommendation]
Write = Callable[[Sequence[Answer]], None]

FORMATS = (".csv", ".jsonl", ".ndjson", ".parquet")
COLUMNS = ("user_id", "rank", "item_id", "score", "source", "new_session", "title")


@contextmanager
def answer_writer(path: Path, kind: str, titled: bool) -> Iterator[Write]:
    """Open ``path`` and give a function that writes answers to it; an `InputError` if Parquet cannot be written.

    ``kind`` is one of `FORMATS`. ``.csv`` or ``.parquet``: a row per recommended item, columns `COLUMNS`, rank 1 is
    best; without ``title`` unless items have names. ``.jsonl`` or ``.ndjson``: a line per user with the fields of
    `Recommendation`.
    """
    columns = COLUMNS if titled else COLUMNS[:-1]
    if kind == ".parquet":
        with _parquet_writer(path, columns) as write:
            yield write
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind == ".csv":
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)
            yield lambda answers: table.writerows(row[: len(columns)] for row in _rows(answers))
        else:
            yield lambda answers: file.writelines(_json_line(*answer) for answer in answers)


def _rows(answers: Sequence[Answer]) -> Iterator[tuple[Any, ...]]:
    for user, answer in answers:
        rows = zip_longest(answer.items, answer.scores, answer.titles, fillvalue="")
        for rank, (item, score, title) in enumerate(rows, start=1):
            yield user, rank, item, score, answer.source, answer.new_session, title


def _json_line(user: str, answer: Recommendation) -> str:
    content = {name: value for name, value in asdict(answer).items() if name != "titles" or value}
    return json.dumps({"user": user, **content}, ensure_ascii=False) + "\n"


@contextmanager
def _parquet_writer(path: Path, columns: Sequence[str]) -> Iterator[Write]:
    with needs("Parquet", "pyarrow", "parquet", ", or write .csv or .jsonl"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    kinds = (pa.string(), pa.int32(), pa.string(), pa.float64(), pa.string(), pa.bool_(), pa.string())
    schema = pa.schema(list(zip(columns, kinds, strict=False)))
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda answers: writer.write_table(
            pa.Table.from_pylist([dict(zip(columns, row, strict=False)) for row in _rows(answers)], schema)
        )
