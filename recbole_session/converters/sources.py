"""Fetching a published file, finding the ratings inside what a user points at, and reading them as guarded bytes."""

import gzip
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from recbole_session.converters.lines import shown
from recbole_session.errors import InputError, needs

TIMEOUT = 30  # seconds without a byte
MAX_EXPANSION = 100  # text packs about 4 to 10 times smaller; deflate can be driven to 1032
BLOCK_BYTES = 4 << 20
FREE_EXPANSION_BYTES = 64 << 20  # below this much output nobody is harmed, whatever the factor
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

Read = Callable[[int], bytes]


def download(url: str, checksum: str | None, folder: Path) -> Path:
    """Fetch a file into ``folder``, under the name that it has in the address, and return its path.

    It takes that name when it is complete and has the ``checksum``, ``"md5:..."`` (None accepts what comes). So an
    interrupted download starts again, and a finished one is never fetched twice.

    Raises
    ------
    InputError
        If the server cannot be reached or refuses, or the file's checksum is another.
    """
    with needs("--download", "pooch", "download", f", or fetch {url} yourself and give it by --raw"):
        import pooch
        import requests
    name = url.rstrip("/").rpartition("/")[2]
    pooch.get_logger().setLevel(logging.WARNING)
    fetch = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    try:
        return Path(pooch.retrieve(url, checksum, fname=name, path=folder, downloader=fetch))
    except (requests.RequestException, OSError) as error:
        raise InputError(
            f"{url} cannot be fetched ({error}): try again, or fetch it by other means and give it by --raw."
        ) from error
    except ValueError as error:  # pooch: the checksum
        raise InputError(
            f"{url} came with another checksum than the published {checksum}: it is damaged or has changed; try again."
        ) from error


@dataclass(frozen=True)
class Source:
    """A file on disk and, for an archive, the member to read."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """The name used in messages and in the card, without the directory."""
        return f"{self.path.name}:{self.member}" if self.member else self.path.name


def find_sources(raw: Path, names: tuple[str, ...]) -> list[Source]:
    """Find the files to read, in the order of their names.

    ``raw`` is a zip, a folder, a bare file, a ``.gz`` or a ``.zst``, as its first bytes say, or a pattern of several
    files, like ``logs/*.csv``. ``names`` are the files to look for in a zip or a folder, the preferred first; a pattern
    among them takes every file that it fits.

    Raises
    ------
    InputError
        If nothing fits, or a zip holds member names that point outside of it.
    """
    raw = Path(raw).expanduser()
    if raw.is_dir():
        return _find_in_folder(raw, names)
    if not raw.is_file():
        pattern = str(raw.relative_to(raw.anchor))
        if found := [Source(path) for path in sorted(Path(raw.anchor).glob(pattern)) if path.is_file()]:
            return found
        raise InputError(f"--raw {raw} does not exist: give a zip, a folder, a bare file or a .gz.")
    with _named(raw.name), raw.open("rb") as stream:
        magic = stream.read(4)
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        return _find_in_zip(raw, names)
    return [Source(raw)]


def _find_in_folder(folder: Path, names: tuple[str, ...]) -> list[Source]:
    with _named(str(folder)):
        for name in names:
            for pattern in (name, f"{name}.gz", f"*/{name}", f"*/{name}.gz"):
                found = sorted(path for path in folder.glob(pattern) if path.is_file())
                if len(found) > 1 and "*" not in name:
                    listed = ", ".join(str(path.relative_to(folder)) for path in found[:5])
                    raise InputError(f"--raw {folder} holds several {name} ({listed}): give the one file.")
                if found:
                    return [Source(path) for path in found]
    raise InputError(f"--raw {folder} holds no {' or '.join(names)}: give the file itself.")


def _find_in_zip(path: Path, names: tuple[str, ...]) -> list[Source]:
    with _named(path.name), zipfile.ZipFile(path) as archive:
        members = [info.filename for info in archive.infolist() if not info.is_dir()]
    for member in members:
        parts = PurePosixPath(member.replace("\\", "/")).parts
        if ".." in parts or member.startswith(("/", "\\")) or ":" in member:
            raise InputError(
                f"{path.name} holds {shown(member)}, a name that points outside: do not trust this archive."
            )
    for name in names:
        found = sorted(member for member in members if fnmatchcase(PurePosixPath(member).name, name))
        if len(found) > 1 and "*" not in name:
            raise InputError(f"{path.name} holds several {name} ({', '.join(found[:5])}): unpack the right one.")
        if found:
            return [Source(path, member) for member in found]
    raise InputError(
        f"{path.name} holds no {' or '.join(names)} but {', '.join(members[:5]) or 'nothing'}: is it the right archive?"
    )


def beside(source: Source, name: str) -> Source | None:
    """Return the file ``name``, packed or not, in the folder of a source or of its archive; None if there is none."""
    if source.member is not None:
        member = str(PurePosixPath(source.member).with_name(name))
        with _named(source.path.name), zipfile.ZipFile(source.path) as archive:
            return Source(source.path, member) if member in archive.namelist() else None
    paths = (source.path.with_name(name), source.path.with_name(f"{name}.gz"))
    return next((Source(path) for path in paths if path.is_file()), None)


@contextmanager
def open_source(source: Source) -> Iterator[Read]:
    """Give a function that reads at most so many unpacked bytes of a source; an `InputError` at a bomb or damage."""
    with ExitStack() as stack:
        with _named(source.name):
            packed_bytes = source.path.stat().st_size
            if source.member is not None:
                archive = stack.enter_context(zipfile.ZipFile(source.path))
                packed_bytes = archive.getinfo(source.member).compress_size
                opened: Any = archive.open(source.member)
            else:
                opened = _open_file(source)
            stream = stack.enter_context(opened)
        allowed = max(FREE_EXPANSION_BYTES, MAX_EXPANSION * packed_bytes)

        def read(size: int) -> bytes:
            nonlocal allowed
            with _named(source.name):
                data: bytes = stream.read(size)
            allowed -= len(data)
            if allowed < 0:
                raise InputError(
                    f"{source.name} unpacks to more than {MAX_EXPANSION} times its size: this is not a ratings file; "
                    "unpack it yourself if you trust it."
                )
            return data

        yield read


def _open_file(source: Source) -> Any:
    with source.path.open("rb") as stream:
        magic = stream.read(4)
    if magic.startswith(_GZIP):
        return gzip.open(source.path, "rb")
    if magic != _ZSTD:
        return source.path.open("rb")
    with needs(f"{source.name} is packed by zstd, which", "pyarrow", "parquet", ", or unpack it yourself"):
        import pyarrow as pa
    return pa.CompressedInputStream(pa.OSFile(str(source.path)), "zstd")


def plain_text(source: Source, scratch: Path, encoding: str = "utf-8") -> Path:
    """Return the path of a source's text: the file itself, or a copy unpacked into ``scratch``.

    A file with carriage returns, or in another encoding (of one byte a character), is copied too: the copy has
    plain line feeds and is UTF-8. An `InputError` if the text is empty or UTF-16, see also `open_source`.
    """
    plain = source.path
    if source.member is not None or encoding != "utf-8" or _is_packed_or_has_returns(source):
        plain = scratch / "plain.txt"
        with open_source(source) as read, plain.open("wb") as copy:
            while block := read(BLOCK_BYTES):
                while block.endswith(b"\r") and (more := read(1)):
                    block += more
                text = block.replace(b"\r\n", b"\n")
                copy.write(text if encoding == "utf-8" else text.decode(encoding, "replace").encode())
    with plain.open("rb") as stream:
        check_start(stream.read(2), source.name)
    return plain


def _is_packed_or_has_returns(source: Source) -> bool:
    with _named(source.name), source.path.open("rb") as stream:
        start = stream.read(BLOCK_BYTES)
        return start.startswith((_GZIP, _ZSTD)) or any(
            b"\r" in block for block in chain([start], iter(lambda: stream.read(BLOCK_BYTES), b""))
        )


def check_start(start: bytes, name: str) -> None:
    """Refuse a text by its first bytes: one that is empty, or UTF-16."""
    if not start:
        raise InputError(f"{name} is empty: give the file as it was published.")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name} is UTF-16 text, but must be UTF-8: save it again as UTF-8.")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Make an InputError of what the standard library raises on unreadable, damaged or encrypted files."""
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} cannot be read ({reason}): fetch it again.") from error
