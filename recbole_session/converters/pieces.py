"""Rows with their users, in memory and scattered over temporary files that only this conversion reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.pipeline import Log
from recbole_session.errors import InputError

FAN_OUT = 64  # files that one scattering makes at most
BUCKET_BYTES = 8 << 20  # a larger file is scattered once more
LARGEST_HASH = 2**62 - 1
_HEADER_BYTES = 32  # int64: users, rows, rows with a session (all or none), bytes of the tokens


class Piece(NamedTuple):
    """Rows that bring their users along.

    ``tokens`` [U] are UTF-8 bytes, each user once. ``ranks`` int64 [U], ascending, are the users' places in the
    order of first appearance; a user who comes again in a later piece has a higher rank there, which counts
    for nothing. ``log.users`` are positions in the two.
    """

    tokens: NDArray[np.object_]
    ranks: NDArray[np.int64]
    log: Log


Key = Callable[[Piece], NDArray[np.int64]]  # a number [U] for each user


def hash_key(piece: Piece) -> NDArray[np.int64]:
    """Return numbers up to `LARGEST_HASH` that spread users evenly."""
    # Python's hash of bytes is keyed by a secret of the process: nobody can aim users at one file.
    return np.fromiter(map(hash, piece.tokens), np.int64, len(piece.tokens)) & LARGEST_HASH


def rank_key(piece: Piece) -> NDArray[np.int64]:
    """Return the users' ranks."""
    return piece.ranks


def scatter(piece: Piece, keys: NDArray[np.int64], bounds: tuple[int, int], n_files: int, stem: Path) -> set[Path]:
    """Append each user with its rows to the file of its range of keys; return the files written.

    Parameters
    ----------
    keys
        [U], each within ``bounds``, the lowest and the highest key possible.
    n_files
        Ranges of equal width, at most 256.
    stem
        Files are ``stem-000``, ``stem-001``, ...; sorted by name they are sorted by key.
    """
    low, high = bounds
    parts = ((keys - low) // ((high - low) // n_files + 1)).astype(np.uint8)
    part_of_row = parts[piece.log.users]
    written = set()
    for part in np.unique(parts).tolist():
        users = np.flatnonzero(parts == part)
        log = piece.log.take(np.flatnonzero(part_of_row == part))
        log = log._replace(users=np.searchsorted(users, log.users).astype(np.int32))
        path = stem.with_name(f"{stem.name}-{part:03}")
        append_piece(path, Piece(piece.tokens[users], piece.ranks[users], log))
        written.add(path)
    return written


def small_files(paths: Iterable[Path], key: Key) -> Iterator[Path]:
    """Scatter what is larger than `BUCKET_BYTES`, down to one key if need be; yield files in order of name."""
    for path in paths:
        size = path.stat().st_size
        bounds = _bounds(path, key) if size > BUCKET_BYTES else (0, 0)
        if bounds[0] == bounds[1]:
            yield path
            continue
        parts: set[Path] = set()
        for piece in read_pieces(path):
            parts |= scatter(piece, key(piece), bounds, min(FAN_OUT, 2 * size // BUCKET_BYTES + 2), path)
        path.unlink()
        yield from small_files(sorted(parts), key)


def _bounds(path: Path, key: Key) -> tuple[int, int]:
    """Return the lowest and the highest key of a file: ranges between them never all fall together."""
    extremes = [(keys.min(), keys.max()) for keys in map(key, read_pieces(path))]
    return int(min(low for low, _ in extremes)), int(max(high for _, high in extremes))


def append_piece(path: Path, piece: Piece) -> None:
    """Write a piece behind those already in the file.

    Raises
    ------
    InputError
        If it cannot be written, most likely for a full disk.
    """
    log = piece.log
    text = b"\n".join(piece.tokens)  # no token holds a line feed: they are escaped
    sizes = np.array([len(piece.ranks), len(log.users), len(log.sessions), len(text)], dtype=np.int64)
    # The wide columns first, so that each begins where its numbers are aligned when read back.
    columns = (sizes, piece.ranks, log.ratings, log.times, log.sessions, log.users, log.items)
    try:
        with path.open("ab") as stream:
            stream.write(b"".join([*(column.tobytes() for column in columns), text]))
    except OSError as error:
        raise InputError(
            f"--data_path {path.parent.parent} has no room for the rows of a long file ({error}): "
            "free some disk, or choose another."
        ) from error


def read_pieces(path: Path) -> Iterator[Piece]:
    """Read pieces one after another."""
    with path.open("rb") as stream:
        while header := stream.read(_HEADER_BYTES):
            n_users, n_rows, n_sessions, n_bytes = np.frombuffer(header, np.int64).tolist()
            data = stream.read(8 * (n_users + 2 * n_rows + n_sessions) + 4 * 2 * n_rows + n_bytes)
            yield _decode(data, n_users, n_rows, n_sessions)


def _decode(data: bytes, n_users: int, n_rows: int, n_sessions: int) -> Piece:
    columns: list[NDArray[Any]] = []
    offset = 0
    for dtype, count in (
        (np.int64, n_users),
        (np.float64, n_rows),
        (np.int64, n_rows),
        (np.int64, n_sessions),
        (np.int32, n_rows),
        (np.int32, n_rows),
    ):
        columns.append(np.frombuffer(data, dtype, count, offset))
        offset += columns[-1].nbytes
    ranks, ratings, times, sessions, users, items = columns
    tokens = np.empty(n_users, dtype=object)
    tokens[:] = data[offset:].split(b"\n")
    return Piece(tokens, ranks, Log(users, items, ratings, times, sessions))
