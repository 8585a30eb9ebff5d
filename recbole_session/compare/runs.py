"""What a comparison is made of: finished runs, read back from their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recbole_session.config.values import read_yaml_file
from recbole_session.errors import InputError
from recbole_session.run.run import Run


@dataclass(frozen=True)
class Comparison:
    """Runs to be compared.

    Attributes
    ----------
    name : str
        Of the preset or the YAML file.
    dataset : str
    names : tuple of str
        Rows of the table, in order.
    baseline : str
        One of ``names``, against which the others are tested.
    runs : tuple of Run
    failures : Mapping
        By ``(name, seed)``: why a run has no result.
    sweep_key : str or None
        The key that is swept (Figure 2 of the paper), e.g. ``max_session_segments``.
    sweep_values : Mapping
        By row: the value of ``sweep_key``; rows that are not here are drawn as horizontal lines.
    """

    name: str
    dataset: str
    names: tuple[str, ...]
    baseline: str
    runs: tuple[Run, ...]
    failures: Mapping[tuple[str, int], str] = field(default_factory=dict)
    sweep_key: str | None = None
    sweep_values: Mapping[str, float] = field(default_factory=dict)

    def runs_of(self, name: str) -> list[Run]:
        """Runs of one row, by seed."""
        return sorted((run for run in self.runs if run.name == name), key=lambda run: run.seed)


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison back from its folder, ``<checkpoint_dir>/<dataset>/comparison-<name>``.

    Parameters
    ----------
    folder : Path
        With ``comparison.yaml`` (the plan, see docs/compare.md) and ``runs.json``: a list of mappings with ``row``,
        ``seed``, ``dataset_checksum``, and either ``folder`` (of the run, relative to this one; null before it is
        made) or ``failure``.

    Raises
    ------
    InputError
        If a file is missing or damaged, or a run used other data than the comparison.
    """
    plan = read_yaml_file(folder / "comparison.yaml")
    path = folder / "runs.json"
    try:
        finished, failures = [], {}
        for entry in json.loads(path.read_text(encoding="utf-8")):
            place = folder / entry["folder"] if entry.get("folder") else None
            if place is not None and (place / "result.json").is_file():
                finished.append(_read_run(place, entry))
            elif "failure" in entry:
                failures[entry["row"], entry["seed"]] = str(entry["failure"])
        sweep = plan.get("sweep")
        return Comparison(
            name=folder.resolve().name.removeprefix("comparison-"),
            dataset=folder.resolve().parent.name,
            names=tuple(row["name"] for row in plan["runs"]),
            baseline=plan["baseline"],
            runs=tuple(finished),
            failures=dict(sorted(failures.items())),
            sweep_key=sweep,
            sweep_values={row["name"]: row[sweep] for row in plan["runs"] if sweep in row},
        )
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; name the folder of a comparison, or run folders"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder} holds no whole comparison ({reason}); run `recbole-session compare` again"
        ) from error


def _read_run(folder: Path, entry: Mapping[str, str]) -> Run:
    """Open a finished run, and refuse one that was made with other data than the comparison."""
    run = Run(folder, entry["row"])
    found = run.result["dataset_checksum"]
    expected = entry.get("dataset_checksum", found)
    if found != expected:
        raise InputError(
            f"{folder} was made with other data than the comparison (dataset_checksum is {found[:12]}, and "
            f"{expected[:12]} in runs.json); run `recbole-session compare` again"
        )
    return run
