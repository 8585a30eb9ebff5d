"""What stands under the metrics table: what its marks mean, and of what they speak."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_session.compare.runs import Comparison
from recbole_session.report.cells import ALPHA, Cell

BETTER, WORSE = "†", "‡"


def legend(comparison: Comparison, cells: Sequence[Cell]) -> list[str]:
    """Return the lines, for readers who see the table alone."""
    seeds = sorted({run.seed for run in comparison.runs})
    lines = ["The best value of a column is bold, the second best underlined."]
    if any(cell.deviation is not None for cell in cells):
        lines.append(f"Mean ± standard deviation over the seeds {', '.join(map(str, seeds))}; without ±, of one seed.")
    elif seeds:
        lines.append(f"One seed ({', '.join(map(str, seeds))}): how much another seed would differ is not known.")
    if any(cell.versus for cell in cells):
        lines += _of_marks(comparison.baseline, cells)
    elif cells and not comparison.runs_of(comparison.baseline):
        lines.append(f"Nothing is tested: the baseline, {comparison.baseline}, has no result.")
    return lines


def _of_marks(baseline: str, cells: Sequence[Cell]) -> list[str]:
    """Say which tests a mark stands for."""
    tested = [(cell.row, cell.versus) for cell in cells if cell.versus]
    over_users_alone = list(dict.fromkeys(row for row, versus in tested if versus.p_methods is None))
    marks = f"{BETTER} significantly better, {WORSE} significantly worse than {baseline}"
    over_users = "paired randomisation test over users (their mean over seeds)"
    corrected = f"Holm-corrected over the whole table, p < {ALPHA}"
    these_models = "these trained models, not of these methods: that takes two seeds of the row and of the baseline"
    if all(versus.p_methods is None for _, versus in tested):
        return [f"{marks}: {over_users}, {corrected}.", f"The marks speak of {these_models}."]
    lines = [f"{marks}: {over_users} and, beside it, a test that counts users and seeds; {corrected} in both."]
    if over_users_alone:
        lines.append(f"{', '.join(over_users_alone)}: test over users alone; the marks speak of {these_models}.")
    return lines
