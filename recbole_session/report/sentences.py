"""What the report says in sentences: the findings, and the legend under the metrics table."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from recbole_session.compare.runs import Comparison
from recbole_session.report.headings import BETTER, DIFFERENCES, LIMITED, WORSE, column_title, written_p
from recbole_session.report.tidy import ALPHA, in_column

CANDIDATE_SETS = {
    "random": "{n} items drawn at random outside the user's history, and the target",
    "popular": "the {n} most popular items outside the user's history, and the target",
    "all": "all items",
}


def describe_candidates(name: str, n_negatives: object) -> str:
    """Say in words among which items a target is ranked."""
    return CANDIDATE_SETS.get(name, "a user's own list, and the target").format(n=n_negatives)


def describe_split(keys: Mapping[str, Any]) -> str:
    """Say in words which interactions are tested, from the keys that all rows share."""
    split = (keys.get("eval_args") or {}).get("split") or {"LS": "valid_and_test"}
    if "SS" in split:
        return "by sessions: a user's last session is tested, the one before it validates"
    if "TS" in split:
        return "by time: at the same moments for all users, the latest interactions are tested, those before validate"
    return "leave one out by time: a user's last interaction is tested, the one before it validates"


def failures(comparison: Comparison) -> list[tuple[str, str]]:
    """Rows of which a run has no result, and why."""
    found = []
    for name in comparison.names:
        own = [(seed, reason) for (row, seed), reason in sorted(comparison.failures.items()) if row == name]
        found += [(name, f"{name}, seed {seed}: failed: {' '.join(reason.split())}") for seed, reason in own]
        if not own and not comparison.runs_of(name):
            found.append((name, f"{name}: not run"))
    return found


def legend(comparison: Comparison, whole: pd.DataFrame) -> list[str]:
    """Return the lines, for readers who see the table alone; ``whole`` are the lines of all users."""
    seeds = ", ".join(map(str, comparison.seeds))
    lines = ["The best value of a column is bold, the second best underlined."]
    if whole["sd_over_seeds"].notna().any():
        lines.append(f"Mean ± standard deviation over the seeds {seeds}; without ±, of one seed.")
        limited = whole[(whole["epochs"] != "") & whole["sd_over_seeds"].notna()].drop_duplicates("row")
        if len(limited):
            ranges = "; ".join(f"{line.row} ran {line.epochs} epochs" for line in limited.itertuples())
            lines.append(
                f"{LIMITED} train_time_limit stopped the seeds after different numbers of epochs, which ± includes: "
                f"{ranges}."
            )
    elif seeds:
        lines.append(f"One seed ({seeds}): how much another seed would differ is not known.")
    tested = whole[whole["p"].notna()]
    if len(tested):
        lines += _of_marks(comparison.baseline, tested)
    elif len(whole) and not comparison.runs_of(comparison.baseline):
        lines.append(f"Nothing is tested: the baseline, {comparison.baseline}, has no result.")
    return lines


def _of_marks(baseline: str, tested: pd.DataFrame) -> list[str]:
    """Say which tests a mark stands for."""
    over_users_alone = list(dict.fromkeys(tested.loc[tested["p_methods"].isna(), "row"]))
    marks = f"{BETTER} significantly better, {WORSE} significantly worse than {baseline}"
    over_users = "paired randomisation test over users (their mean over seeds)"
    corrected = f"Holm-corrected over the whole table, p < {ALPHA}"
    compare = "marks compare these trained models; comparing the methods takes two seeds of the row and of the baseline"
    if tested["p_methods"].isna().all():
        return [f"{marks}: {over_users}, {corrected}.", f"The {compare}."]
    lines = [f"{marks}: {over_users} and a test that counts users and seeds; {corrected} in both."]
    if over_users_alone:
        lines.append(f"{', '.join(over_users_alone)}: test over users alone; the {compare}.")
    return lines


def summary(comparison: Comparison, whole: pd.DataFrame, principal: tuple[str, str] | None, n_users: int) -> list[str]:
    """Findings in plain sentences; ``whole`` are the lines of all users."""
    if principal is None:
        return ["No run has a result yet, so there is nothing to compare."]
    sentences = [_best_sentence(comparison.baseline, whole, principal)]
    tested = whole[whole["p"].notna()]
    if not len(tested):
        return sentences
    better, worse = ((tested["verdict"] == verdict).sum() for verdict in ("better", "worse"))
    sample = f"these {n_users:,} users" + (" and these seeds" if tested["p_methods"].notna().any() else "")
    sentences.append(
        f"Of {len(tested)} differences from {comparison.baseline} in the table, {better} "
        f"{'is' if better == 1 else 'are'} significantly better and {worse} significantly worse; the other "
        f"{len(tested) - better - worse} could be chance with {sample}."
    )
    return sentences + _about_seeds(tested)


def _about_seeds(tested: pd.DataFrame) -> list[str]:
    """Say where the seeds disagree with the marks."""
    is_marked = tested["verdict"] != ""
    unsure = ((tested["p_holm"] < ALPHA) & ~is_marked).sum()
    agreeing = tested["seeds_better"].where(tested["verdict"] == "better", tested["seeds_worse"])
    split = (is_marked & (agreeing < tested["seeds_paired"])).sum()
    unknown = (is_marked & tested["p_methods"].isna()).sum()
    sentences = {
        f"{unsure} of these {'is' if unsure == 1 else 'are'} significant over users, but not once the seeds are "
        "counted too: the trained models differ, but other trainings of the same methods might not.": unsure,
        f"{split} of the significant differences {'does' if split == 1 else 'do'} not hold in every seed: trained "
        "again, the model may do better or worse.": split,
        f"{unknown} of the significant differences {'compares' if unknown == 1 else 'compare'} these trained models "
        "and not the methods, because there is only one seed of the row or of the baseline.": unknown,
    }
    return [sentence for sentence, count in sentences.items() if count]


def _best_sentence(baseline: str, whole: pd.DataFrame, principal: tuple[str, str]) -> str:
    column = in_column(whole, principal)
    best: dict[str, Any] = column.loc[column["mean"].idxmax()].to_dict()
    sentence = f"By {column_title(*principal)}, {best['row']} is best with {best['mean']:.4f}"
    if pd.isna(best["p"]):
        return sentence + "."
    verdict = {"better": "significantly more", "worse": "significantly less"}
    p = f"Holm-corrected p {_p_equals(best['p_holm'])} over users"
    if not pd.isna(best["p_methods_holm"]):
        p += f", p {_p_equals(best['p_methods_holm'])} over users and seeds"
    difference, interval = (DIFFERENCES[name].write(best) for name in ("difference", "difference_ci_low"))
    return (
        f"{sentence}: {difference} (95% interval {interval}) against {baseline}, "
        f"{verdict.get(best['verdict'], 'not significantly different')} ({p}); "
        f"{best['users_improved']:.1%} of the users fare better and {best['users_worsened']:.1%} worse."
    )


def _p_equals(p: float) -> str:
    return written_p(p) if p < 0.001 else f"= {written_p(p)}"
