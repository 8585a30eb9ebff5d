"""Which keys the runs of a comparison share, and in which the rows differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_session.compare.runs import Comparison
from recbole_session.config.values import plain
from recbole_session.run.folder import CONFIG_FILE

# Neither the seed, which runs of a row differ in, nor where files lay on the machine of the runs.
_LEFT_OUT = {"seed", "checkpoint_dir", "data_path"}


def row_settings(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Keys of every row that has a result, as far as they can matter to others; empty where ``config.yaml`` is gone."""
    settings = {}
    for name in comparison.names:
        for run in comparison.runs_of(name)[:1]:
            values = run.config if (run.folder / CONFIG_FILE).is_file() else {}
            settings[name] = {key: value for key, value in values.items() if key not in _LEFT_OUT}
    return settings


def split_settings(rows: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Keys with the same value in every row, and by row the others."""
    known = [values for values in rows.values() if values]
    if not known:
        return {}, {}
    common = {
        key: value for key, value in known[0].items() if all(key in other and other[key] == value for other in known)
    }
    others = {
        name: {key: value for key, value in sorted(values.items()) if key not in common}
        for name, values in rows.items()
        if values
    }
    return plain(common), plain(others)


def one_line(value: Any) -> str:
    """Write a value as it stands in YAML, on one line."""
    if value is None:
        return "~"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {one_line(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(one_line, value)) + "]"
    return str(value)
