r"""How much a trained model owes to being told when the next interaction happens and whether it opens a session.

The rows of a test user ``a b | c`` with target ``d`` in three contexts (``|``: a new session)::

    told       a b | c | d    the paper's protocol: the target's real time, and whether it opens a session
    inferred   a b | c . d    time of c plus the user's median gap; a new session if that gap exceeds session_gap
    withheld   a b | c d      time of c, in the session of c, no session token

The last two are functions of the history alone. A context is put into the rows, and everything after them (session
tokens, segments, times, RecBole's transforms) is cut from these rows as in every other evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_session.data.batches import UNKNOWN_TIME
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import EvaluationLoader
from recbole_session.data.sequences import UserSequences
from recbole_session.data.splits import leave_one_out
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.files import replacing
from recbole_session.run.build import build
from recbole_session.run.folder import BEST_FILE, CONTEXT_FILE, CONTEXTS, ranks_file
from recbole_session.run.loading import run_config
from recbole_session.run.ranks import ranks_frame, write_ranks
from recbole_session.run.run import Run


@dataclass(frozen=True)
class Audit:
    """Ranks of the test split in every context.

    Attributes
    ----------
    dataset : SessionDataset
        Gives the raw ids.
    ranks : dict of SplitRanks
        By context.
    facts : dict
        How often the inferred context is right, see `compare_targets`.
    """

    dataset: SessionDataset
    ranks: dict[str, SplitRanks]
    facts: dict[str, Any]


def audit_run(folder: Path, data_path: Path | None = None) -> None:
    """Evaluate the best epoch of a finished run in the three contexts, unless that is done already.

    Writes ``ranks-inferred.csv`` and ``ranks-withheld.csv``, in the form of ``ranks.csv``, and at last
    ``context.json``: the metrics by context and candidate set, and the facts of `compare_targets`.

    Parameters
    ----------
    folder : Path
        Of a finished run.
    data_path : Path, optional
        Where the datasets are, if no longer where the run found them.

    Raises
    ------
    InputError
        If the folder holds no finished run, or told all, the model does not give the ranks of ``ranks.csv``.
    """
    if is_audited(folder):
        return
    run = Run(folder)
    audit = rank_in_contexts(run, data_path)
    dataset = audit.dataset
    run.check_dataset(dataset)
    ours, found = (frame.to_csv(index=False) for frame in (run.ranks(), ranks_frame(dataset, audit.ranks["told"])))
    if ours != found:
        made = ", ".join(f"{name} {value}" for name, value in run.result["environment"].items())
        raise InputError(
            f"{folder}: best.pth does not give the ranks of ranks.csv here, though the dataset is the same; audit it "
            f"where it was made ({made})"
        )
    for context in CONTEXTS[1:]:
        write_ranks(folder / ranks_file(context), dataset, audit.ranks[context])
    content = {context: audit.ranks[context].metrics for context in CONTEXTS} | audit.facts
    with replacing(folder / CONTEXT_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def is_audited(folder: Path) -> bool:
    """Whether the folder holds an audit of its present ``best.pth``."""
    files = [folder / CONTEXT_FILE, *(folder / ranks_file(context) for context in CONTEXTS[1:])]
    weights = folder / BEST_FILE
    if not weights.is_file() or not all(file.is_file() for file in files):
        return False
    return min(file.stat().st_mtime_ns for file in files) > weights.stat().st_mtime_ns


def rank_in_contexts(run: Run, data_path: Path | None = None) -> Audit:
    """Rank the test split of a run's dataset in every context, among the run's negatives.

    Parameters
    ----------
    run : Run
        Finished. Its device and number of threads are used again: the last bits of a score depend on them.
    data_path : Path, optional
        Folder of the dataset's folder; by default the run's own.
    """
    environment = run.result["environment"]
    device = torch.device(environment["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        device = torch.device("cpu")
    model, _ = run.model(device)
    parts = build(run_config(run.config, run.model_class, device, data_path), with_model=False)
    dataset, evaluator = parts.dataset, parts.evaluator
    rows = {"told": dataset.sequences, "inferred": infer_targets(dataset.sequences, parts.config["session_gap"])}
    rows["withheld"] = withhold_targets(dataset.sequences)
    ranks = {}
    with _threads(environment["threads"]):
        for context, sequences in rows.items():
            batches = EvaluationLoader(parts.config, parts.test._dataset.with_sequences(sequences))
            ranks[context] = evaluator.evaluate(model, batches, device, list(evaluator.negatives))
    return Audit(dataset, ranks, compare_targets(rows["told"], rows["inferred"]))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- contexts


def infer_targets(sequences: UserSequences, session_gap: float) -> UserSequences:
    """Put every test target where the user's habits say: a median gap after the last event.

    It opens a session exactly if that gap is greater than ``session_gap`` seconds, whatever made the sessions of the
    history.
    """
    gaps = median_gaps(sequences)
    return _move_targets(sequences, gaps, gaps > session_gap)


def withhold_targets(sequences: UserSequences) -> UserSequences:
    """Put every test target into the session of the event before it, at a time that nobody knows."""
    users, ends = leave_one_out(sequences)["test"]
    moved = _move_targets(sequences, torch.zeros_like(users), torch.zeros_like(users, dtype=torch.bool))
    moved.times[ends] = UNKNOWN_TIME
    return moved


def median_gaps(sequences: UserSequences) -> Tensor:
    """Median number of seconds between two events of the history of every test user, cut to whole seconds.

    The history is all that precedes the target. A test user has two events of it at least, and so a gap.

    Returns
    -------
    Tensor
        int64 ``[n]``, in the order of the test split.
    """
    users, ends = leave_one_out(sequences)["test"]
    begins = sequences.offsets[users]
    counts = ends - begins - 1  # [n] gaps per user
    owners = torch.arange(len(users)).repeat_interleave(counts)
    firsts = counts.cumsum(0) - counts
    later = torch.arange(len(owners)) - firsts[owners] + begins[owners] + 1  # rows that end a gap
    gaps = sequences.times[later] - sequences.times[later - 1]
    gaps = gaps[torch.from_numpy(np.lexsort((gaps.numpy(), owners.numpy())))]  # ascending within every user
    return (gaps[firsts + (counts - 1) // 2] + gaps[firsts + counts // 2]) // 2


def _move_targets(sequences: UserSequences, gaps: Tensor, opens_session: Tensor) -> UserSequences:
    """Put the test targets ``gaps`` seconds after the event before them, in its session or in a new one."""
    _, ends = leave_one_out(sequences)["test"]
    times, sessions = sequences.times.clone(), sequences.sessions.clone()
    times[ends] = times[ends - 1] + gaps
    sessions[ends] = sessions[ends - 1] + opens_session.long()
    return replace(sequences, times=times, sessions=sessions)


def compare_targets(told: UserSequences, inferred: UserSequences) -> dict[str, Any]:
    """Say how right the inferred context is.

    Returns
    -------
    dict
        ``users``; ``users_told_new_session`` and ``users_inferred_new_session``, of whom the context says that the
        target opens a session; ``inferred_right``, for how many the two agree; ``inferred_time_error``, the median
        over users of how many seconds the inferred time is off.
    """
    _, ends = leave_one_out(told)["test"]
    opens, inferred_opens = ((rows.sessions[ends] != rows.sessions[ends - 1]) for rows in (told, inferred))
    return {
        "users": len(ends),
        "users_told_new_session": int(opens.sum()),
        "users_inferred_new_session": int(inferred_opens.sum()),
        "inferred_right": int((opens == inferred_opens).sum()),
        "inferred_time_error": float(np.median((told.times[ends] - inferred.times[ends]).abs().numpy())),
    }
