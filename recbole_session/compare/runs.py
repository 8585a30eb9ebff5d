"""What a comparison is made of: finished runs, read back from their folders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_session.compare.plan import read_plan
from recbole_session.errors import InputError, shown
from recbole_session.run.folder import RESULT_FILE
from recbole_session.run.run import Run
from recbole_session.run.schema import read_json

_AGAIN = "run `recbole-session compare` again"


@dataclass(frozen=True)
class Comparison:
    """Runs to be compared."""

    name: str  # of the preset or the YAML file
    dataset: str
    names: tuple[str, ...]  # rows of the table, in order
    baseline: str  # one of the names, against which the others are tested
    runs: tuple[Run, ...]
    failures: Mapping[tuple[str, int], str] = field(default_factory=dict)  # by name and seed: why it has no result
    sweep_key: str | None = None  # the key that is swept (Figure 2 of the paper), e.g. max_session_segments
    sweep_values: Mapping[str, float] = field(default_factory=dict)  # by row; others are drawn as horizontal lines

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs, each once."""
        return sorted({run.seed for run in self.runs})

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
    plan, path = read_plan(folder / "comparison.yaml"), folder / "runs.json"
    finished: list[Run] = []
    failures: dict[tuple[str, int], str] = {}
    names, sweep, cells = tuple(row.name for row in plan.rows), plan.sweep or "", set()
    for entry in read_json(path, {"row": str, "seed": int}, is_list=True):
        cell = entry["row"], entry["seed"]
        if cell in cells or cell[0] not in names:
            what = "is there twice" if cell in cells else "is not in comparison.yaml"
            raise InputError(f"{path} is damaged: row {shown(cell[0])}, seed {shown(cell[1])} {what}; {_AGAIN}")
        cells.add(cell)
        place = entry.get("folder")
        if not isinstance(place, str | None):
            raise InputError(f"{path} is damaged: folder is {shown(place)}; {_AGAIN}")
        if place and (folder / place / RESULT_FILE).is_file():
            finished.append(_read_run(folder / place, entry))
        elif "failure" in entry:
            failures[cell] = str(entry["failure"])
    return Comparison(
        name=folder.resolve().name.removeprefix("comparison-"),
        dataset=folder.resolve().parent.name,
        names=names,
        baseline=plan.baseline,
        runs=tuple(finished),
        failures=dict(sorted(failures.items())),
        sweep_key=plan.sweep,
        sweep_values={row.name: row.keys[sweep] for row in plan.rows if sweep in row.keys},
    )


def _read_run(folder: Path, entry: Mapping[str, Any]) -> Run:
    """Open a finished run, and refuse one that was made with other data or another seed than the comparison's."""
    run = Run(folder, entry["row"])
    for key in ("dataset_checksum", "seed"):
        found, expected = run.result[key], entry.get(key, run.result[key])
        if found != expected:
            raise InputError(
                f"{folder} was made with other data than the comparison ({key} is "
                f"{shown(str(found)[:12])}, and {shown(str(expected)[:12])} in runs.json); {_AGAIN}"
            )
    return run
