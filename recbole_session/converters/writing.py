"""Atomic files in both senses: RecBole's format, and all of it or nothing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    with ExitStack() as held:
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(output_dir)
            scratch = _make_locked(output_dir, held)
        except OSError as error:
            raise InputError(f"--data_path {output_dir} cannot be written ({error}): choose another.") from error
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            for folder in made:  # innermost first; one that now holds a dataset is not empty and stays
                with suppress(OSError):
                    folder.rmdir()


def _make_locked(output_dir: Path, held: ExitStack) -> Path:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=output_dir))
        with suppress(FileNotFoundError):  # another process took it for abandoned before it was locked
            _lock(scratch, held)
            if scratch.exists():
                return scratch


def _lock(folder: Path, held: ExitStack, wait: bool = False) -> bool:
    """Lock a folder until ``held`` ends; False if there are no locks or, without ``wait``, another process holds it."""
    if fcntl is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    held.callback(os.close, descriptor)
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    return False


def _remove_abandoned(output_dir: Path) -> None:
    for folder in output_dir.glob(f"{_SCRATCH}*"):
        with suppress(OSError), ExitStack() as held:
            if _lock(folder, held):
                shutil.rmtree(folder, ignore_errors=True)


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
    with ExitStack() as held:
        _lock(folder, held, wait=True)  # two conversions into one name take turns
        for old in (CARD, f"{name}.item"):
            (folder / old).unlink(missing_ok=True)
        for file in files:
            file.replace(folder / file.name)
    return folder / f"{name}.inter"
