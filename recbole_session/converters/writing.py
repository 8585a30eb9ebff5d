"""Atomic files in both senses: RecBole's format, and all of it or nothing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_session.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no locks there, so left-over folders stay
    fcntl = None  # type: ignore[assignment]

CARD = "dataset.json"
_SCRATCH = ".converting-"


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


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Lock a folder; None if there are no locks or, without ``wait``, if another process holds it."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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


def publish(scratch: Path, folder: Path, name: str) -> Path:
    """Move a finished ``.inter``, the ``.item`` if there is one, and the card into their folder.

    Each rename is atomic. The old card goes first, so that killed at any point this leaves a whole old
    or a whole new dataset, at worst without its card, never a card that belongs to other data.
    """
    files = [scratch / file for file in (f"{name}.inter", f"{name}.item", CARD) if (scratch / file).exists()]
    for file in files:  # on disk, or a power cut after its rename could leave it empty
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    folder.mkdir(exist_ok=True)
    lock = _lock(folder, wait=True)  # two conversions into one name take turns
    try:
        for old in (CARD, f"{name}.item"):
            (folder / old).unlink(missing_ok=True)
        for file in files:
            file.replace(folder / file.name)
    finally:
        if lock is not None:
            os.close(lock)
    return folder / f"{name}.inter"
