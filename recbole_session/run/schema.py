"""What the files of a run folder must hold, checked where they are read: a run folder may come from anyone."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_session.errors import InputError

Fields = Mapping[str, type | tuple[type, ...]]

NUMBER = (int, float)


def check_fields(path: Path, content: Any, fields: Fields, within: str = "") -> None:
    """Refuse content of a file that lacks a value, or has one of another type.

    Parameters
    ----------
    path : Path
        Named in the message.
    content : any
        Must be a dict.
    fields : Mapping
        Type, or types, by name. True and False are numbers only where ``bool`` is named.
    within : str
        Name of ``content`` within the file, ending in a dot.

    Raises
    ------
    InputError
        Naming the value and what was found.
    """
    if not isinstance(content, dict):
        where = within.rstrip(".") or "its content"
        raise InputError(f"{path} is damaged: {where} is {reprlib.repr(content)}; train again, or use another file")
    for name, kinds in fields.items():
        value = content.get(name, ...)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            found = "missing" if value is ... else reprlib.repr(value)
            raise InputError(f"{path} is damaged: {within}{name} is {found}; train again, or use another file")


def check_metrics_by_set(path: Path, content: Mapping[str, Any], name: str) -> None:
    """Refuse anything but numbers by candidate set and metric under ``name``."""
    if not content[name]:
        raise InputError(f"{path} is damaged: {name} holds no candidate set; train again, or use another file")
    check_fields(path, content[name], dict.fromkeys(content[name], dict), f"{name}.")
    for candidates, metrics in content[name].items():
        check_fields(path, metrics, dict.fromkeys(metrics, NUMBER), f"{name}.{candidates}.")


def read_json(path: Path, fields: Fields) -> dict[str, Any]:
    """Read a JSON file and check it, see `check_fields`.

    Raises
    ------
    InputError
        If the file is missing, is not JSON or fails the check.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; name the run folder of a trained model, or train again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); train again, or use another") from error
    check_fields(path, content, fields)
    return content
