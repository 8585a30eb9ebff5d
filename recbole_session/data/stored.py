"""The columns of a large atomic file as numpy files beside it: made once, mapped into memory from then on.

The folder ``<file>.<key>.columns`` holds a ``.npy`` file per column, the tokens as text, one a line, and an index.
The key comes from the SHA-256 of the atomic file and from how it is read, and the index has the SHA-256 of every file
in the folder. All of them are computed at every load: what does not agree is made again.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from recbole_session.data.atomic import Arrays, Tokens, parse_columns
from recbole_session.distributed import on_first_process
from recbole_session.errors import InputError
from recbole_session.files import file_checksum, replacing_folder

SMALLEST = 64 << 20  # bytes of an atomic file; a smaller one is read again within two seconds
INDEX = "index.json"


def load_columns(
    path: Path, fields: dict[str, str], wanted: Collection[str], named: Collection[str], separator: str, encoding: str
) -> tuple[Arrays, Tokens]:
    """What `atomic.parse_columns` returns, from the stored columns where the file is large; they are made if need be.

    ``named`` are the columns whose tokens are asked for.
    """
    names = [name for name in fields if name in wanted]

    def parse() -> tuple[Arrays, Tokens]:
        arrays, tokens = parse_columns(path, fields, names, separator, encoding)
        return arrays, {name: tokens[name] for name in named if name in tokens}

    if path.stat().st_size < SMALLEST:
        return parse()
    key: dict[str, Any] = {
        "file": file_checksum(path),
        "columns": {name: fields[name] for name in names},
        "separator": separator,
        "encoding": encoding,
    }
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    folder = path.with_name(f"{path.name}.{digest[:16]}.columns")

    def make() -> None:
        with suppress(OSError), FileLock(path.with_name(f".{path.name}.lock")):  # lifted when a process dies
            if _read(folder, key, ()) is None:
                _write(folder, key, *parse_columns(path, fields, names, separator, encoding))
                _remove_old(path, key["file"])

    stored = _read(folder, key, named)
    if stored is None:
        on_first_process(make)
        stored = _read(folder, key, named) or parse()
    return stored


def _read(folder: Path, key: dict[str, Any], named: Collection[str]) -> tuple[Arrays, Tokens] | None:
    """Map the stored columns; None if they are missing, damaged or not those of ``key``."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        files = [folder / name for name in index["files"]]
        with ThreadPoolExecutor(2) as pool:  # hashlib lets go of the interpreter
            found = dict(zip(index["files"], pool.map(file_checksum, files), strict=True))
        if index != {"key": key, "files": found}:
            return None
        arrays, tokens = {}, {}
        for place, (name, kind) in enumerate(key["columns"].items()):
            arrays[name] = np.asarray(np.load(folder / f"{place}.npy", mmap_mode="r"))
            if name in named and kind == "token":
                tokens[name] = (folder / f"{place}.txt").read_bytes().decode().split("\n")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arrays, tokens


def _write(folder: Path, key: dict[str, Any], arrays: Arrays, tokens: Tokens) -> None:
    """Write the stored columns; a folder that cannot be written, or a full disk, costs the next load its time only."""
    try:
        with replacing_folder(folder) as temporary:
            for place, (name, array) in enumerate(arrays.items()):
                np.save(temporary / f"{place}.npy", array)
                if name in tokens:
                    (temporary / f"{place}.txt").write_bytes("\n".join(tokens[name]).encode())
            files = {file.name: file_checksum(file) for file in sorted(temporary.iterdir())}
            (temporary / INDEX).write_text(json.dumps({"key": key, "files": files}), encoding="utf-8")
    except InputError as error:
        logging.getLogger().warning(f"{error}; the next run reads the text of the dataset again")


def _remove_old(path: Path, checksum: str) -> None:
    """Remove the columns of what the atomic file held before."""
    for folder in path.parent.glob(f"{escape(path.name)}.*.columns"):
        try:
            is_old = json.loads((folder / INDEX).read_text(encoding="utf-8"))["key"]["file"] != checksum
        except (OSError, ValueError, KeyError, TypeError):
            is_old = True
        if is_old:
            shutil.rmtree(folder, ignore_errors=True)
