"""Where the answers of ``recbole-session recommend`` go, batch by batch: CSV, JSON-lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recbole_session.errors import InputError
from recbole_session.inference.recommendation import Recommendation

Answer = tuple[str, Recommendation]
Write = Callable[[Sequence[Answer]], None]

COLUMNS = ("user_id", "rank", "item_id", "score", "source", "new_session")


@contextmanager
def answer_writer(path: Path, kind: str) -> Iterator[Write]:
    """Open ``path`` and give a function that writes answers to it.

    Parameters
    ----------
    path : Path
    kind : str
        ``.csv`` or ``.parquet``: a row per recommended item, columns `COLUMNS`, rank 1 is best. ``.jsonl`` or
        ``.ndjson``: a line per user with the fields of `Recommendation`.

    Raises
    ------
    InputError
        For another ending, or if Parquet cannot be written.
    """
    writers = {".csv": _csv_writer, ".jsonl": _json_writer, ".ndjson": _json_writer, ".parquet": _parquet_writer}
    if kind not in writers:
        raise InputError(f"output ends in {kind!r}; allowed: {', '.join(writers)}")
    with writers[kind](path) as write:
        yield write


def _rows(answers: Sequence[Answer]) -> Iterator[tuple[Any, ...]]:
    for user, answer in answers:
        for rank, (item, score) in enumerate(zip(answer.items, answer.scores, strict=True), start=1):
            yield user, rank, item, score, answer.source, answer.new_session


@contextmanager
def _csv_writer(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda answers: writer.writerows(_rows(answers))


@contextmanager
def _json_writer(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(answers: Sequence[Answer]) -> None:
            for user, answer in answers:
                file.write(json.dumps({"user": user, **asdict(answer)}, ensure_ascii=False) + "\n")

        yield write


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Write]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow: pip install recbole-session[parquet], or write .csv or .jsonl"
        ) from error
    kinds = (pa.string(), pa.int32(), pa.string(), pa.float64(), pa.string(), pa.bool_())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    with pq.ParquetWriter(path, schema) as writer:

        def write(answers: Sequence[Answer]) -> None:
            columns = list(zip(*_rows(answers), strict=True)) or [()] * len(COLUMNS)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

        yield write
