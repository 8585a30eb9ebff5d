"""The default engine: arrays in memory, and for a longer log the same steps on a part of its users at a time.

The log is read in runs of `RUN_ROWS` rows. One that ends within the first run never leaves memory. Of a longer
one each run is scattered over files by a hash of the user, as a Grace hash join does it (Kitsuregawa, Tanaka,
Moto-oka 1983, "Application of hash to data base machine and its architecture"). Such a partition holds all rows
of its users, so it takes the steps of `pipeline` alone. Its result is scattered over files again, by the order
of the users' first appearance this time, and each of those is sorted in memory: a distribution sort (Knuth, The
Art of Computer Programming 3, section 5.2.5). Memory holds one run or one file, and what is kept per item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.pieces import (
    BUCKET_BYTES,
    FAN_OUT,
    LARGEST_HASH,
    Piece,
    hash_key,
    rank_key,
    read_pieces,
    scatter,
    small_files,
)
from recbole_session.converters.pipeline import (
    Count,
    Log,
    Prepared,
    Tally,
    concatenate,
    finish_users,
    prepare_in_memory,
    split_latest,
)
from recbole_session.converters.thresholds import Thresholds
from recbole_session.converters.tokens import CodedRows
from recbole_session.converters.writing import CHUNK_ROWS

RUN_ROWS = 1 << 18  # rows of the raw file held at a time: 24 bytes each, and the ids of their users
RESULT_ROW_BYTES = 40  # a row and its share of its user, about


class Scattered(NamedTuple):
    """A log in files: its rows and notes of users as read, rows of each item after the rating step, the files."""

    rows: int
    ranks: int
    item_rows: NDArray[np.int64]
    paths: list[Path]


def prepare_in_runs(logs: CodedRows, thresholds: Thresholds, scratch: Path) -> Prepared:
    """Run the preprocessing in memory that grows neither with the rows nor with the users of the log.

    The chunks of a log longer than one run hold their users' tokens; ``logs.users`` is empty then.

    Raises
    ------
    InputError
        If ``scratch`` cannot take the rows, most likely for a full disk.
    """
    runs = _runs(logs)
    first = next(runs, [])
    if _n_rows(first) < RUN_ROWS:
        return prepare_in_memory(iter(first), thresholds, scratch)
    raw = _scatter_runs(chain([first], runs), logs, thresholds.min_rating, scratch / "users")
    common = raw.item_rows >= thresholds.min_item_rows
    n_files = min(FAN_OUT, int(raw.item_rows[common].sum()) * RESULT_ROW_BYTES // BUCKET_BYTES + 1)
    tally, raw_users = Tally(), 0
    results: set[Path] = set()
    for path in small_files(raw.paths, hash_key):
        piece, users = _convert_partition(path, common, thresholds, tally)
        path.unlink()
        raw_users += users
        results |= scatter(piece, piece.ranks, (0, raw.ranks), n_files, scratch / "ranks")
    counts = [Count("read", raw.rows, raw_users, len(raw.item_rows)), *tally.counts()]
    return Prepared(counts, _sorted_chunks(sorted(results)))


def _runs(logs: Iterable[Log]) -> Iterator[list[Log]]:
    """Gather blocks until they are a run; only the last one may be shorter than `RUN_ROWS`."""
    run: list[Log] = []
    for log in logs:
        run.append(log)
        if _n_rows(run) >= RUN_ROWS:
            yield run
            run = []
    if run:
        yield run


def _n_rows(logs: list[Log]) -> int:
    return sum(len(log.users) for log in logs)


def _scatter_runs(runs: Iterable[list[Log]], logs: CodedRows, min_rating: float, stem: Path) -> Scattered:
    n_rows, n_ranks, item_rows = 0, 0, np.zeros(0, dtype=np.int64)
    paths: set[Path] = set()
    for run in runs:
        n_rows += _n_rows(run)
        log = concatenate([log.take(log.ratings >= min_rating) for log in run])
        run.clear()
        counted = np.bincount(log.items, minlength=len(logs.items))
        counted[: len(item_rows)] += item_rows
        item_rows = counted
        # A user whose every row is rated low goes along: being first counts, and so does being read.
        tokens = logs.users.drain()
        piece = Piece(tokens, np.arange(n_ranks, n_ranks + len(tokens)), log)
        n_ranks += len(tokens)
        paths |= scatter(piece, hash_key(piece), (0, LARGEST_HASH), FAN_OUT, stem)
    return Scattered(n_rows, n_ranks, item_rows, sorted(paths))


def _convert_partition(
    path: Path, common: NDArray[np.bool_], thresholds: Thresholds, tally: Tally
) -> tuple[Piece, int]:
    """Take a partition through the steps; return its rows in (user, time, file) order, and its users as read.

    Parameters
    ----------
    common
        [items] True for an item with enough rows in the whole log.
    """
    codes_of: dict[bytes, int] = {}
    ranks: list[NDArray[np.int64]] = []
    logs: list[Log] = []
    limit = RUN_ROWS
    for piece in read_pieces(path):
        n_known = len(codes_of)
        codes = np.array([codes_of.setdefault(token, len(codes_of)) for token in piece.tokens], dtype=np.int32)
        ranks.append(piece.ranks[codes >= n_known])
        log = piece.log._replace(users=codes[piece.log.users])
        tally.add("min_rating", log)
        log = log.take(common[log.items])
        tally.add("min_item_rows", log)
        logs.append(log)
        if _n_rows(logs) > limit:
            logs = [_without_old_rows(logs, thresholds, tally)]
            limit = RUN_ROWS + 2 * _n_rows(logs)
    log = finish_users(concatenate(logs), thresholds, tally)
    tally.close_users()
    tokens = np.empty(len(codes_of), dtype=object)
    tokens[:] = list(codes_of)
    kept, positions = np.unique(log.users, return_inverse=True)
    log = log._replace(users=positions.astype(np.int32))
    return Piece(tokens[kept], np.concatenate(ranks)[kept], log), len(codes_of)


def _without_old_rows(logs: list[Log], thresholds: Thresholds, tally: Tally) -> Log:
    """Drop rows that are sure to be cut as not the latest, so that a busy user is not held whole.

    Such a user has more rows than the step on users asks for, before and after, so that step keeps him
    either way; the rows that he loses here already are counted there.
    """
    most = max(thresholds.max_rows_per_user, thresholds.min_user_rows)
    latest, old = split_latest(concatenate(logs), most)
    tally.add("min_user_rows", old)
    return latest


def _sorted_chunks(paths: list[Path]) -> Iterator[Log]:
    """Yield the rows of all results by rank, each user's in the order they have; ``paths`` are sorted by rank."""
    for path in small_files(paths, rank_key):
        pieces = list(read_pieces(path))
        path.unlink()
        ranks = np.concatenate([piece.ranks[piece.log.users] for piece in pieces])
        tokens = np.concatenate([piece.tokens[piece.log.users] for piece in pieces])
        columns = zip(*(piece.log for piece in pieces), strict=True)
        log = Log(*map(np.concatenate, columns))._replace(users=tokens)
        order = np.argsort(ranks, kind="stable")
        for start in range(0, len(order), CHUNK_ROWS):
            yield log.take(order[start : start + CHUNK_ROWS])
