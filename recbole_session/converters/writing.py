"""Atomic files in both senses: RecBole's format, and all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_session.converters.pipeline import Log
from recbole_session.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no locks there, so left-over folders stay
    fcntl = None  # type: ignore[assignment]

HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\tsession_id:token\n"
CARD = "dataset.json"
CHUNK_ROWS = 1 << 16
_SCRATCH = ".converting-"


class Written(NamedTuple):
    """What a written ``.inter`` file holds."""

    rows: int
    sessions: int
    bytes: int
    sha256: str


@contextmanager
def scratch_folder(output_dir: Path) -> Iterator[Path]:
    """Make a folder beside the datasets for unfinished files; gone afterwards, whatever happened.

    A process killed in between leaves it behind. Each conversion holds a lock on its own, so the next
    one can tell the abandoned from those in use, and removes them.
    """
    made = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(output_dir)
        scratch, lock = _make_locked(output_dir)
    except OSError as error:
        raise InputError(f"--data_path {output_dir} cannot be written ({error}): choose another.") from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        for folder in made:  # innermost first; one that now holds a dataset is not empty and stays
            with suppress(OSError):
                folder.rmdir()


def _make_locked(output_dir: Path) -> tuple[Path, int | None]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=output_dir))
        with suppress(FileNotFoundError):  # another process took it for abandoned before it was locked
            lock = _lock(scratch)
            if scratch.exists():
                return scratch, lock


def _lock(folder: Path) -> int | None:
    """Lock a folder without waiting; None if another process holds it or there are no locks."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(output_dir: Path) -> None:
    for folder in output_dir.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if (lock := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def publish(scratch: Path, folder: Path, inter_name: str) -> Path:
    """Move a finished ``.inter`` and its card into their folder.

    Each rename is atomic. The old card goes first, so that killed at any point this leaves a whole old
    or a whole new dataset, at worst without its card, never a card that belongs to other data.
    """
    folder.mkdir(exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    (scratch / inter_name).replace(folder / inter_name)
    (scratch / CARD).replace(folder / CARD)
    return folder / inter_name


def write_card(path: Path, card: dict[str, Any]) -> None:
    """Write the card as JSON; equal cards are equal bytes."""
    with path.open("wb") as stream:
        stream.write((json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
        _to_disk(stream)


def write_inter(path: Path, chunks: Iterable[Log], users: NDArray[np.object_], items: NDArray[np.object_]) -> Written:
    """Write an ``.inter`` file.

    Parameters
    ----------
    chunks
        Rows in their final order. Session tokens are 1, 2, 3, ... over the whole file.
    users, items
        UTF-8 token of every code; chunks whose users are tokens already need no ``users``.
    """
    rows = sessions = size = 0
    digest = hashlib.sha256()
    last: tuple[Any, int] | None = None  # (user, session) of the row before
    with path.open("wb") as stream:
        size += stream.write(HEADER)
        digest.update(HEADER)
        for chunk in _small(chunks):
            opens = _opens_session(chunk, last)
            tokens = sessions + np.cumsum(opens)
            data = _encode(chunk, tokens, users, items)
            size += stream.write(data)
            digest.update(data)
            rows, sessions = rows + len(tokens), int(tokens[-1])
            last = chunk.users[-1], int(chunk.sessions[-1])
        _to_disk(stream)
    return Written(rows, sessions, size, digest.hexdigest())


def _small(chunks: Iterable[Log]) -> Iterator[Log]:
    for chunk in chunks:
        for start in range(0, len(chunk.users), CHUNK_ROWS):
            yield chunk.take(slice(start, start + CHUNK_ROWS))


def _opens_session(chunk: Log, last: tuple[Any, int] | None) -> NDArray[np.bool_]:
    opens = np.ones(len(chunk.users), dtype=bool)
    opens[1:] = (chunk.users[1:] != chunk.users[:-1]) | (np.diff(chunk.sessions) != 0)
    opens[0] = last != (chunk.users[0], int(chunk.sessions[0]))
    return opens


def _encode(chunk: Log, tokens: NDArray[np.int64], users: NDArray[np.object_], items: NDArray[np.object_]) -> bytes:
    """Return the lines of a chunk: fields in zero-padded columns of bytes, then the zeros squeezed out."""
    values, codes = np.unique(chunk.ratings, return_inverse=True)
    ratings = np.array([repr(float(value)).encode() for value in values], dtype=object)
    fields = [
        text_columns(chunk.users if chunk.users.dtype == object else users[chunk.users]),
        text_columns(items[chunk.items]),
        text_columns(ratings[codes]),
        digit_columns(chunk.times),
        digit_columns(tokens),
    ]
    columns = []
    for field, end in zip(fields, b"\t\t\t\t\n", strict=True):
        columns += [field, np.full((len(tokens), 1), end, dtype=np.uint8)]
    wide = np.concatenate(columns, axis=1).ravel()
    return wide[wide != 0].tobytes()


def text_columns(texts: NDArray[np.object_]) -> NDArray[np.uint8]:
    """[N] byte strings without zero bytes -> [N, widest] bytes, zero-padded."""
    return texts.astype(np.bytes_).view(np.uint8).reshape(len(texts), -1)


def digit_columns(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """[N] numbers >= 0 -> [N, widest] digits, zero-padded on the left."""
    powers = 10 ** np.arange(len(str(values.max())) - 1, -1, -1, dtype=np.int64)
    digits = (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    digits[:, :-1][values[:, None] < powers[:-1]] = 0
    return digits


def _to_disk(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())  # or a power cut after the rename could leave an empty file
