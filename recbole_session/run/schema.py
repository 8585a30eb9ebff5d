"""Checks of the files of a run folder, made where they are read: a run folder may come from anyone."""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_session.errors import InputError

Fields = Mapping[str, type | tuple[type, ...]]

NUMBER = (int, float)


def damaged(path: Path, what: str) -> InputError:
    """Error for a file that does not hold what this program writes."""
    return InputError(f"{path} is damaged: {what}; train again, or use another file")


def check_fields(path: Path, content: Any, fields: Fields, within: str = "") -> None:
    """Refuse content that is not a dict, lacks a value or has one of another type.

    ``fields`` gives the types by name; True and False are numbers only where ``bool`` is named, and an integer must
    fit 64 bits. ``within`` is the name of ``content`` in the file, ending in a dot.
    """
    if not isinstance(content, dict):
        raise damaged(path, f"{within.rstrip('.') or 'its content'} is {reprlib.repr(content)}")
    for name, kinds in fields.items():
        value = content.get(name, ...)
        too_large = isinstance(value, int) and not -(2**63) <= value < 2**63
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool) or too_large:
            raise damaged(path, f"{within}{name} is {'missing' if value is ... else reprlib.repr(value)}")


def check_metrics_by_set(path: Path, content: Mapping[str, Any], *names: str) -> None:
    """Refuse anything but numbers by candidate set and metric under ``names``, the same metrics in the same sets."""
    sets = dict.fromkeys((candidates for name in names for candidates in content[name]), dict)
    if not sets:
        raise damaged(path, f"{names[0]} holds no candidate set")
    for name in names:
        check_fields(path, content[name], sets, f"{name}.")
    values = {f"{name}.{candidates}.": content[name][candidates] for name in names for candidates in sets}
    metrics = dict.fromkeys((metric for found in values.values() for metric in found), NUMBER)
    for within, found in values.items():
        check_fields(path, found, metrics, within)


def read_json(path: Path, fields: Fields, is_list: bool = False) -> Any:
    """Read a JSON file of an object, or of a list of objects, and check them with `check_fields`.

    A file that is missing, is not JSON or fails the check is an `InputError`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if "\\ud" in text.lower():  # the escape of half a surrogate pair is text that no file can hold
            json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; name the run folder of a trained model, or train again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, " ".join(str(error).split())) from error
    if is_list and not isinstance(content, list):
        raise damaged(path, f"its content is {reprlib.repr(content)}, which is not a list")
    for number, entry in enumerate(content) if is_list else [("", content)]:
        check_fields(path, entry, fields, f"[{number}]." if is_list else "")
    return content
