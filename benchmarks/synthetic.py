"""Are session methods found better where they should be, and nowhere else? On synthetic users, repeatedly.

    python benchmarks/synthetic.py [--repetitions 4] [--null_repetitions 20] [--work FOLDER] [--output FILE.md]

Every repetition draws a data set (`benchmarks.synthetic_data`), trains plain, ST, SSE and TSA with several
seeds each, and asks three tests which of the three are better than plain by NDCG@10 among all items, Holm-corrected.
Where neither sessions nor times matter, plain is trained with as many more seeds, to compare a method with itself.
Values are kept in --work, from where an interrupted benchmark resumes.
"""

import argparse
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from synthetic_data import KINDS, SMALL_MODEL, write_synthetic

from recbole_session.report.significance import compare_methods, holm, randomisation_test
from recbole_session.run.ranks import metric_of_ranks
from recbole_session.run.run import Run
from recbole_session.run.training import run_session

Floats = NDArray[np.float64]

ALPHA = 0.05
ROWS: dict[str, list[str]] = {"plain": [], "ST": ["ST"], "SSE": ["SSE"], "TSA": ["TSA"]}
# With fewer users trainings end up further apart: the harder case for a test that must find nothing, and the quicker.
N_USERS = {"session": 800, "elapsed": 800, "neither": 300}
# Where there is something to learn, all of it is to be learned; all rows of a kind are trained alike.
SEEDS = {"session": (1, 2, 3, 4, 5), "elapsed": (1, 2, 3, 4, 5), "neither": (1, 2, 3)}
EPOCHS = {"session": 20, "elapsed": 20, "neither": 10}
EXPECTED = {"session": ("ST", "SSE"), "elapsed": ("TSA",), "neither": ()}


def ndcg_per_user(kind: str, data_seed: int, features: list[str], seed: int, work: Path) -> Floats:
    """Train and test one model; NDCG@10 of every user among all items, float64 ``[U]``."""
    name = f"{kind}-{data_seed}"
    write_synthetic(kind, work / "data", name, n_users=N_USERS[kind], seed=data_seed)
    keys = {**SMALL_MODEL, "session_features": features, "seed": seed, "state": "ERROR", "show_progress": False}
    keys |= {"epochs": EPOCHS[kind], "data_path": str(work / "data"), "checkpoint_dir": str(work / "saved")}
    folder = Path(run_session("SessionBERT4Rec", name, config_dict=keys)["run_folder"])
    ranks = Run(folder).ranks()["rank_all"].to_numpy()
    shutil.rmtree(folder)
    return metric_of_ranks(ranks, "ndcg@10")


def values_of(kind: str, data_seed: int, work: Path) -> dict[str, Floats]:
    """By row: float64 ``[seeds, users]``; out of ``work`` if they are there."""
    path = work / f"{kind}-{data_seed}.npz"
    if not path.is_file():
        rows = {name: (features, SEEDS[kind]) for name, features in ROWS.items()}
        if kind == "neither":
            rows["plain again"] = ([], tuple(seed + len(SEEDS[kind]) for seed in SEEDS[kind]))
        values = {
            name: np.stack([ndcg_per_user(kind, data_seed, features, seed, work) for seed in seeds])
            for name, (features, seeds) in rows.items()
        }
        np.savez(path, **values)
        print(path.stem, {name: np.round(each.mean(1), 3).tolist() for name, each in values.items()}, flush=True)
    with np.load(path) as stored:
        return dict(stored)


def p_of_sign_flips(ours: Floats, baseline: Floats) -> float:
    """Paired randomisation test over users of the means over seeds."""
    return float(randomisation_test((ours.mean(0) - baseline.mean(0))[:, None]).p[0])


@dataclass(frozen=True)
class Procedure:
    """A test of ours against a baseline, both ``[seeds, users]``, and how many seeds it reads (None: all)."""

    n_seeds: int | None
    p_value: Callable[[Floats, Floats], float]


PROCEDURES = {
    "users, 1 seed": Procedure(1, p_of_sign_flips),
    "users, mean of all seeds": Procedure(None, p_of_sign_flips),
    "users and seeds": Procedure(None, lambda ours, baseline: compare_methods(ours, baseline).p),
}


def verdicts(values: dict[str, Floats], procedure: Procedure) -> dict[str, str]:
    """By row: better, worse or nothing than plain, Holm-corrected over the rows that are there."""
    names = [name for name in values if name in ROWS and name != "plain"]
    read = {name: each[: procedure.n_seeds] for name, each in values.items()}
    adjusted = holm(np.array([procedure.p_value(read[name], read["plain"]) for name in names]))
    means = {name: read[name].mean() - read["plain"].mean() for name in names}
    return {
        name: "" if p > ALPHA else "better" if means[name] > 0 else "worse"
        for name, p in zip(names, adjusted, strict=True)
    }


def rate(count: int, of: int) -> str:
    low, high = binomtest(count, of).proportion_ci(method="exact")
    return f"{count} of {of} ({low:.0%} to {high:.0%})"


def kind_table(kind: str, repetitions: list[dict[str, Floats]]) -> list[str]:
    """What was found on the data sets of one kind."""
    found = {name: [verdicts(values, test) for values in repetitions] for name, test in PROCEDURES.items()}
    lines = [
        f"| {kind} | NDCG@10 | between seeds | {' | '.join(PROCEDURES)} |",
        "|---|---|---|" + "---|" * len(PROCEDURES),
    ]
    for row in ROWS:
        means = np.array([values[row].mean(1) for values in repetitions])  # [repetitions, seeds]
        cells = [f"{means.mean():.3f}", f"{np.sqrt(means.var(1, ddof=1).mean()):.3f}"]
        for each in found.values():
            counts = [sum(verdict.get(row) == word for verdict in each) for word in ("better", "worse")]
            cells.append("" if row == "plain" else f"{counts[0]} better, {counts[1]} worse, of {len(each)}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return [*lines, ""]


def halves(values: dict[str, Floats], n_seeds: int) -> Iterator[tuple[Floats, Floats]]:
    """All ways to compare plain with itself: ``n_seeds`` of its trainings and as many others, each pair once."""
    runs = np.concatenate((values["plain"], values["plain again"]))
    for ours in combinations(range(len(runs)), n_seeds):
        others = [run for run in range(len(runs)) if run not in ours]
        for baseline in combinations(others, n_seeds):
            if ours < baseline:
                yield runs[list(ours)], runs[list(baseline)]


def error_table(repetitions: list[dict[str, Floats]]) -> list[str]:
    """How often each procedure errs where there is nothing to find."""
    lines = [
        "| test over | plain against plain: p <= 0.05 | ST, SSE or TSA found better | better or worse |",
        "|---|---|---|---|",
    ]
    for name, test in PROCEDURES.items():
        same = [
            test.p_value(*pair) <= ALPHA
            for values in repetitions
            for pair in halves(values, test.n_seeds or len(SEEDS["neither"]))
        ]
        found = [set(verdicts(values, test).values()) for values in repetitions]
        better = sum("better" in words for words in found)
        either = sum(bool(words - {""}) for words in found)
        cells = (rate(count, len(repetitions)) for count in (better, either))
        lines.append(f"| {name} | {sum(same)} of {len(same)} ({np.mean(same):.1%}) | {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="Power and error rate of the comparison, on synthetic users.")
    parser.add_argument("--repetitions", type=int, default=4, help="data sets of kinds session and elapsed")
    parser.add_argument("--null_repetitions", type=int, default=20, help="data sets of kind neither")
    parser.add_argument("--work", type=Path, default=Path("saved/synthetic"), help="where runs and values go")
    parser.add_argument("--output", type=Path, default=Path("results/synthetic.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    counts = {kind: arguments.repetitions if EXPECTED[kind] else arguments.null_repetitions for kind in KINDS}
    values = {
        kind: [values_of(kind, data_seed, arguments.work) for data_seed in range(count)]
        for kind, count in counts.items()
    }
    lines = [
        "# Synthetic users: what is found where the answer is known",
        "",
        f"Written by `python benchmarks/synthetic.py --repetitions {counts['session']} --null_repetitions "
        f"{counts['neither']}` (Python {platform.python_version()}, torch {torch.__version__}, CPU).",
        "",
        "The data sets: [docs/context.md](../docs/context.md). NDCG@10 among all items; three tests, Holm-corrected",
        "over ST, SSE and TSA at 0.05: sign flips of the users' differences between the models of the first seed; the",
        "same of the means over seeds; `compare_methods`, which counts users and seeds. "
        f"Seeds: {', '.join(f'{len(seeds)} ({kind})' for kind, seeds in SEEDS.items())}.",
        "",
        "## What is found better than plain",
        "",
        "`between seeds` is the standard deviation of NDCG@10 over trainings.",
        "",
        *(line for kind in KINDS for line in kind_table(kind, values[kind])),
        "## How often a test errs where there is nothing to find",
        "",
        "In brackets: 95% intervals (Clopper and Pearson) of the share of data sets. Plain is compared with itself in",
        "every way that six trainings allow; these share trainings, so there is no such interval for them.",
        "",
        *error_table(values["neither"]),
    ]
    arguments.output.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
