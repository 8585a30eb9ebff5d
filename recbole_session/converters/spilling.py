"""The default engine: arrays in memory, and for a longer log the same steps on a part of its users at a time.

The log is read in runs of `RUN_ROWS` rows. One that ends within the first run never leaves memory. Of a longer
one each run is scattered over files by a hash of the user, as a Grace hash join does it (Kitsuregawa, Tanaka,
Moto-oka 1983, "Application of hash to data base machine and its architecture"). Such a partition holds all rows
of its users, so it takes the steps of `pipeline` alone; the results are merged back into the order of the users'
first appearance. Memory holds one run, or one partition, or the heads of the results, and what is kept per item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.pieces import Piece, append_piece, read_pieces
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

RUN_ROWS = 1 << 19  # rows of the raw file held at a time: 24 bytes each, and the ids of their users
FAN_OUT = 64  # files that one run is scattered over; at most 256
PARTITION_BYTES = 16 << 20  # a larger partition is scattered once more
MAX_LEVEL = 9  # how often: FAN_OUT ** (MAX_LEVEL + 1) is within a hash of 64 bits
MERGED_ROWS = 1 << 18  # rows held while merging, over all results


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
    raw_rows, item_rows, written = _scatter_runs(chain([first], runs), logs, thresholds.min_rating, scratch)
    common = item_rows >= thresholds.min_item_rows
    partitions = list(_small_enough(written, level=1))
    tally, raw_users, results = Tally(), 0, []
    for partition in partitions:
        piece, users = _convert_partition(partition, common, thresholds, tally)
        partition.unlink()
        raw_users += users
        if len(piece.log.users):
            result = partition.with_name(f"{partition.name}.result")
            _write_result(piece, result, max(1, MERGED_ROWS // len(partitions)))
            results.append(result)
    return Prepared([Count("read", raw_rows, raw_users, len(item_rows)), *tally.counts()], _merge(results))


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


def _scatter_runs(
    runs: Iterable[list[Log]], logs: CodedRows, min_rating: float, scratch: Path
) -> tuple[int, NDArray[np.int64], list[Path]]:
    """Scatter a whole log; return its rows, the rows of each item after the rating step, and the partitions."""
    raw_rows, n_ranks, item_rows = 0, 0, np.zeros(0, dtype=np.int64)
    partitions: set[Path] = set()
    for run in runs:
        raw_rows += _n_rows(run)
        log = concatenate([log.take(log.ratings >= min_rating) for log in run])
        run.clear()
        counted = np.bincount(log.items, minlength=len(logs.items))
        counted[: len(item_rows)] += item_rows
        item_rows = counted
        # A user whose every row is rated low goes along: being first counts, and so does being read.
        tokens = logs.users.drain()
        ranks = np.arange(n_ranks, n_ranks + len(tokens))
        n_ranks += len(tokens)
        partitions |= _scatter(Piece(tokens, ranks, log), scratch / "users", level=0)
    return raw_rows, item_rows, sorted(partitions)


def _scatter(piece: Piece, stem: Path, level: int) -> set[Path]:
    """Append each user with its rows to one of the files ``stem-0``, ``stem-1``, ...; return those written."""
    # Python's hash of bytes is keyed by a secret of the process: nobody can aim users at one partition.
    hashes = np.fromiter(map(hash, piece.tokens), np.int64, len(piece.tokens))
    parts = (hashes // FAN_OUT**level % FAN_OUT).astype(np.uint8)
    part_of_row = parts[piece.log.users]
    written = set()
    for part in np.unique(parts).tolist():
        users = np.flatnonzero(parts == part)
        log = piece.log.take(np.flatnonzero(part_of_row == part))
        log = log._replace(users=np.searchsorted(users, log.users).astype(np.int32))
        path = stem.with_name(f"{stem.name}-{part}")
        append_piece(path, Piece(piece.tokens[users], piece.ranks[users], log))
        written.add(path)
    return written


def _small_enough(partitions: Iterable[Path], level: int) -> Iterator[Path]:
    """Scatter large partitions again, by other digits of the hash, down to one user if need be."""
    for partition in partitions:
        if partition.stat().st_size <= PARTITION_BYTES or level > MAX_LEVEL:
            yield partition
            continue
        parts: set[Path] = set()
        for piece in read_pieces(partition):
            parts |= _scatter(piece, partition, level)
        partition.unlink()
        if len(parts) == 1:  # a single user, or as good as
            yield from parts
        else:
            yield from _small_enough(sorted(parts), level + 1)


def _convert_partition(
    partition: Path, common: NDArray[np.bool_], thresholds: Thresholds, tally: Tally
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
    for piece in read_pieces(partition):
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
    return Piece(tokens, np.concatenate(ranks), log), len(codes_of)


def _without_old_rows(logs: list[Log], thresholds: Thresholds, tally: Tally) -> Log:
    """Drop rows that are sure to be cut as not the latest, so that a busy user is not held whole.

    Such a user has more rows than the step on users asks for, before and after, so that step keeps him
    either way; the rows that he loses here already are counted there.
    """
    most = max(thresholds.max_rows_per_user, thresholds.min_user_rows)
    latest, old = split_latest(concatenate(logs), most)
    tally.add("min_user_rows", old)
    return latest


def _write_result(piece: Piece, path: Path, rows_at_once: int) -> None:
    """Write rows ordered by user as pieces that bring no more than their own users along."""
    for start in range(0, len(piece.log.users), rows_at_once):
        log = piece.log.take(slice(start, start + rows_at_once))
        users, positions = np.unique(log.users, return_inverse=True)
        append_piece(path, Piece(piece.tokens[users], piece.ranks[users], log._replace(users=positions)))


def _merge(results: list[Path]) -> Iterator[Log]:
    """Merge results, each ordered by rank, into chunks ordered by rank; no rank is in two of them."""
    readers = [read_pieces(result) for result in results]
    heads = [next(reader) for reader in readers]
    while heads:
        # Up to here every result is in memory; a user who goes on in his next piece comes first there.
        bound = min(piece.ranks[-1] for piece in heads)
        ready, rests, going_on = [], [], []
        for piece, reader in zip(heads, readers, strict=True):
            head, rest = _split_ranks(piece, bound)
            ready.append(head)
            following = rest if len(rest.ranks) else next(reader, None)
            if following is not None:
                rests.append(following)
                going_on.append(reader)
        heads, readers = rests, going_on
        yield from _in_order_of_ranks(ready)


def _split_ranks(piece: Piece, bound: int) -> tuple[Piece, Piece]:
    """Split a piece whose rows are ordered by user into the ranks up to ``bound`` and those above."""
    users = int(np.searchsorted(piece.ranks, bound, side="right"))
    rows = int(np.searchsorted(piece.log.users, users))
    rest = piece.log.take(slice(rows, None))
    return (
        Piece(piece.tokens[:users], piece.ranks[:users], piece.log.take(slice(0, rows))),
        Piece(piece.tokens[users:], piece.ranks[users:], rest._replace(users=rest.users - users)),
    )


def _in_order_of_ranks(pieces: list[Piece]) -> Iterator[Log]:
    ranks = np.concatenate([piece.ranks[piece.log.users] for piece in pieces])
    tokens = np.concatenate([piece.tokens[piece.log.users] for piece in pieces])
    columns = zip(*(piece.log for piece in pieces), strict=True)
    log = Log(*map(np.concatenate, columns))._replace(users=tokens)
    order = np.argsort(ranks, kind="stable")
    for start in range(0, len(order), CHUNK_ROWS):
        yield log.take(order[start : start + CHUNK_ROWS])
