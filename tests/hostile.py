"""What hostile files look like: mutations of bytes and of values, for tests that must survive all of them."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

N_TIMES = int(os.environ.get("RECBOLE_SESSION_EXAMPLES", "1"))  # 200 for thousands of cases per file

PIECES = [
    b"", b"\n", b"\r\n", b"\r", b",", b"::", b"\t", b"'", b'"', b"\\", b"{", b"}", b"-", b".", b"e9", b"nan", b"inf",
    b"9" * 25, b"9" * 400, b"9" * 5000, b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", "\u2028é😀\u0664".encode(),
    b"u'date': ", b"null", b"0", b" ", b"\\x4", b"\\ud83d", b"[" * 50, b"[" * 5000, b"{a: " * 500, b"NA", b"1e400",
    b"True", b"=1+1", b"\x1b[2J", b":token", b"<<: *x", b"!!python/object/apply:os.system [x]", b"../../x", b"# ",
]  # fmt: skip

Edits = list[tuple[float, int, bytes]]


def edits(most: int = 3) -> st.SearchStrategy[Edits]:
    """Draw edits of bytes: a place from 0 to 1, how many bytes to drop there, and a piece to put there."""
    pieces = st.sampled_from(PIECES) | st.binary(max_size=4)
    return st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0, 1, 2, 9, 200]), pieces), max_size=most)


def edited(content: bytes, changes: Edits) -> bytes:
    """Apply edits to bytes."""
    for place, dropped, piece in changes:
        start = int(place * len(content))
        content = content[:start] + piece + content[start + dropped :]
    return content


VALUES = st.sampled_from(
    [
        None, True, -1, 0, 1, 10**30, 1.5, float("nan"), float("inf"), "", "x", "\x1b[2J", "a\nb", "\ud800", "../../x",
        "=1+1", "<b>", "x" * 300, [], {}, [1], ["a", "a"], {"a": 1}, {"a": {}}, [[[[[[]]]]]], torch.ones(3),
    ]
)  # fmt: skip


def spoilt(content: Any, data: st.DataObject) -> Any:
    """Content in which one value, somewhere, is another, is missing, is there twice, or is one too many."""
    if isinstance(content, dict | list) and content and data.draw(st.integers(0, 6)):
        items = dict(enumerate(content)) if isinstance(content, list) else dict(content)
        name = data.draw(st.sampled_from(sorted(items, key=str)))
        how = data.draw(st.integers(0, 7))
        if how == 0:
            del items[name]
        elif how == 1:
            items[len(items) if isinstance(content, list) else "x"] = items[name]
        else:
            items[name] = spoilt(items[name], data)
        return list(items.values()) if isinstance(content, list) else items
    return data.draw(VALUES)


def change(path: Path, edit: Callable[[Any], Any]) -> None:
    """Write a file of a run folder again with other content."""
    if path.suffix == ".pth":
        torch.save(edit(torch.load(path, weights_only=True)), path)
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(edit(yaml.safe_load(path.read_text()))))
    elif path.suffix == ".json":
        path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    else:
        path.write_text(edit(path.read_text()))


def spoil_bytes(path: Path, data: st.DataObject) -> None:
    """Damage a file anywhere."""
    path.write_bytes(edited(path.read_bytes(), data.draw(edits())))


def spoil_values(path: Path, data: st.DataObject) -> None:
    """Write a whole file, of YAML, JSON or tensors, with other values."""
    with suppress(TypeError, yaml.YAMLError, UnicodeError):  # no such file can be written
        change(path, lambda content: spoilt(content, data))


SPOIL = {"bytes": spoil_bytes, "values": spoil_values}


def examples(count: int) -> settings:
    """Settings of a test with so many examples, and as many times more as the environment asks for."""
    return settings(max_examples=count * N_TIMES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
