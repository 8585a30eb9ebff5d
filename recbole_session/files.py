"""Files that are written whole or not at all."""

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbole_session.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it takes the name when the block ends well.

    The bytes are on disk before the name changes, so that a crash at any moment leaves the old file or the new one.
    After an error nothing stays behind, and what a killed process left is removed by the next one. The temporary file
    exists from the start: enter the block before the work whose result it takes. If ``path`` is a folder, or cannot be
    written, it raises `InputError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}; name one that exists")
        _remove_leftovers(path)
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # "x" follows no symbolic link
            file.write(bytes(4096))  # fails here on a full disk
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``folder`` to write to; it takes the name when the block ends well.

    An older ``folder`` is removed first. What a power cut leaves may be short of bytes: keep checksums within. If it
    cannot be written, it raises `InputError`.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        _remove_leftovers(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside ``path``."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if not _is_running(leftover.name.split(".")[-2]):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


class _Checked(Exception):
    """Leaves `replacing` before anything is replaced."""


def check_writable(*paths: Path) -> None:
    """Refuse paths that `replacing` could not write to, before the work whose results they take; see there."""
    for path in paths:
        with suppress(_Checked), replacing(path):
            raise _Checked


def _is_running(process: str) -> bool:
    """Whether a process with this number is alive; True where that cannot be known."""
    if os.name == "nt" or not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def file_checksum(*paths: Path) -> str:
    """Return the SHA-256 of files, one after another, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
        except OSError as error:
            raise InputError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
