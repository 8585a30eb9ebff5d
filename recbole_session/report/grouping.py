"""Run folders as a comparison: which of them are one row, and what the rows are called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_session.compare.runs import Comparison
from recbole_session.errors import InputError
from recbole_session.report.headings import one_line
from recbole_session.run.folder import differing_keys
from recbole_session.run.run import Run


def group_runs(folders: Sequence[Path], baseline: str | None = None) -> Comparison:
    """Make a comparison of finished runs: those that differ in their seed alone are one row.

    A row is called by its model and session features, and by the keys that tell it from a row of the same name. The
    baseline is a row, by default plain ``SessionBERT4Rec []`` where it is there, else the first. A folder without a
    finished run, two runs of different datasets or of one row and seed, or another baseline is an `InputError`.
    """
    groups: list[tuple[dict[str, Any], list[Run]]] = []
    for folder in dict.fromkeys(path.resolve() for path in folders):
        run = Run(folder)
        keys = run.result and run.config
        same = [runs for others, runs in groups if not _telling_keys(keys, others)]
        if same:
            same[0].append(run)
        else:
            groups.append((keys, [run]))
    names = _names([keys for keys, _ in groups])
    runs = [Run(r.folder, name) for name, (_, own) in zip(names, groups, strict=True) for r in own]
    _check_runs(runs)
    plain = next((name for name in names if name.startswith("SessionBERT4Rec []")), names[0])
    comparison = Comparison("runs", runs[0].result["dataset"], tuple(names), plain, tuple(runs))
    return comparison if baseline is None else comparison.with_baseline(baseline)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the rows; none is given twice."""
    plain = [
        str(keys["model"]) + ("" if (features := keys.get("session_features")) is None else f" {one_line(features)}")
        for keys in rows
    ]
    names = []
    for name, keys in zip(plain, rows, strict=True):
        namesakes = [other for other, theirs in zip(rows, plain, strict=True) if theirs == name]
        telling = sorted({key for other in namesakes for key in _telling_keys(keys, other)})
        names.append(name + "".join(f", {key}={one_line(keys.get(key))}" for key in telling))
    return names


def _telling_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> set[str]:
    """Keys but the seed that tell a row from another; none between a row and itself."""
    return (set(differing_keys(ours, theirs)) | (ours.keys() ^ theirs.keys())) - {"seed"}


def _check_runs(runs: Sequence[Run]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        if run.result["dataset"] != runs[0].result["dataset"]:
            raise InputError(
                f"{run.folder} is a run on {run.result['dataset']}, {runs[0].folder} on {runs[0].result['dataset']}; "
                "compare runs on one dataset"
            )
        other = seen.setdefault((run.name, run.seed), run.folder)
        if other != run.folder:
            raise InputError(f"{run.folder} and {other} are the same run ({run.name}, seed {run.seed}); name one")
