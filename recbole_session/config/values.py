"""YAML text and command-line arguments as plain values, without code execution."""

import copy
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_session.errors import InputError, shown

# Merged as a whole: half of one split and half of another is neither.
_WHOLE_KEYS = {"split"}
_LARGEST, _DEEPEST = 100_000, 20


class _Loader(yaml.SafeLoader):
    """YAML without code execution, in which 1e-3 is a number as it is in RecBole's files."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is written twice; YAML would keep the last in silence."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = None if key_node.tag.endswith(":merge") else self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is written twice", key_node.start_mark)
            if isinstance(key, Hashable) and key is not None:
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {key: list(pairs) for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*\.[\d_]*|\.?\d[\d_]*)(?:[eE][-+]?\d+)$|[-+]?\d[\d_]*\.[\d_]*$"),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("None$"), ["N"])  # as RecBole's users write it


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Loader` would take for something else."""


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def plain(value: Any) -> Any:
    """Copy a value as plain data: paths become texts, numpy's numbers Python's, tuples lists."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def check_size(value: Any, source: str) -> None:
    """Refuse a value that holds more, or is nested deeper, than a person writes; YAML's aliases make such values.

    So is text with half a surrogate pair, which YAML's escapes make and no file can hold.
    """
    pending, count = [(value, 0)], 0
    while pending:
        entry, depth = pending.pop()
        count += 1
        if count > _LARGEST or depth > _DEEPEST:
            raise InputError(f"{source} holds more than {_LARGEST:,} values, or is nested more than {_DEEPEST} deep")
        if isinstance(entry, str) and re.search("[\ud800-\udfff]", entry):
            raise InputError(f"{source} holds {shown(entry)}, which is not text")
        pairs = [each for pair in entry.items() for each in pair] if isinstance(entry, Mapping) else ()
        inner = pairs or (entry if isinstance(entry, list | tuple) else ())
        pending += [(more, depth + 1) for more in inner]


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text; ``source`` names it in the error."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{source}{where}: not valid YAML ({problem})") from error
    except (ValueError, RecursionError) as error:  # a date, a number or a depth that Python does not build
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{source}: not valid YAML ({reason})") from error
    check_size(value, source)
    return value


def dump_yaml(values: Mapping[str, Any], sort_keys: bool = False) -> str:
    """YAML text that `read_yaml_file` reads back to the same values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=True)


def read_yaml_file(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of keys; an empty one holds none. One that is missing or holds no mapping is an `InputError`."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"config file {path} cannot be read: {reason}") from error
    values = parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"config file {path} must hold 'key: value' lines")
    return values


def parse_command_line(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn ``--key=value`` and ``--key value`` into a nested dict; values are YAML, dotted keys are nested.

    An argument of another form, or one key with two values, is an `InputError`.
    """
    values: dict[str, Any] = {}
    pending = list(arguments)
    while pending:
        argument = pending.pop(0)
        key, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not re.fullmatch(r"[^\s.]+(\.[^\s.]+){0,3}", key):
            raise InputError(f"argument {shown(argument)} is not understood; write --key=value, e.g. --epochs=20")
        if not equals:
            if not pending or pending[0].startswith("--"):
                raise InputError(f"argument {shown(argument)} has no value; write --key=value, e.g. {argument}=True")
            text = pending.pop(0)
        # A blank would start a comment or a mapping in YAML; file lists and metric names are plain texts.
        # RecBole's intervals, such as [5,inf), are texts too.
        is_text = key == "config_files" or (text.startswith("[") and text.endswith(")"))
        nested: Any = text if is_text else parse_yaml(text, f"--{key}")
        for part in reversed(key.split(".")):
            nested = {part: nested}
        if _overlap(values, nested):
            raise InputError(f"--{key} is given twice; give it once")
        values = deep_merge(values, nested)
    return values


def _overlap(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return any(
        key in left
        and not (isinstance(left[key], Mapping) and isinstance(value, Mapping) and not _overlap(left[key], value))
        for key, value in right.items()
    )


def deep_merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``above`` over it, mappings merged key by key; both stay unchanged."""
    merged = copy.deepcopy(dict(base))
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and key not in _WHOLE_KEYS:
            merged[key] = deep_merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
