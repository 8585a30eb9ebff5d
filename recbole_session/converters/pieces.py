"""Rows with their users, in memory and as temporary files that only the conversion which wrote them reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.pipeline import Log
from recbole_session.errors import InputError

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
    wide = (sizes, piece.ranks, log.ratings, log.times, log.sessions)
    narrow = (log.users.astype(np.int32, copy=False), log.items)
    try:
        with path.open("ab") as stream:
            stream.write(b"".join([*(column.tobytes() for column in (*wide, *narrow)), text]))
    except OSError as error:
        raise InputError(
            f"--data_path {path.parent.parent} has no room for the rows of a long file ({error}): "
            "free some disk, or choose another."
        ) from error


def read_pieces(path: Path) -> Iterator[Piece]:
    """Read pieces one after another; between two of them the file is closed, so many can be read at a time."""
    offset, end = 0, path.stat().st_size
    while offset < end:
        with path.open("rb") as stream:
            stream.seek(offset)
            header = stream.read(_HEADER_BYTES)
            n_users, n_rows, n_sessions, n_bytes = np.frombuffer(header, np.int64).tolist()
            size = 8 * (n_users + 2 * n_rows + n_sessions) + 4 * 2 * n_rows + n_bytes
            data = stream.read(size)
        offset += _HEADER_BYTES + size
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
        column = np.frombuffer(data, dtype, count, offset)
        columns.append(column)
        offset += column.nbytes
    ranks, ratings, times, sessions, users, items = columns
    tokens = np.empty(n_users, dtype=object)
    tokens[:] = data[offset:].split(b"\n")
    return Piece(tokens, ranks, Log(users, items, ratings, times, sessions))
