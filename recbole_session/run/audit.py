r"""How much a trained model relies on knowing when the next interaction happens and whether it opens a session.

The rows of a test user ``a b | c`` with target ``d`` in three contexts (``|``: a new session)::

    told       a b | c | d    the paper's protocol: the target's real time, and whether it opens a session
    inferred   a b | c . d    time of c plus the user's median gap; a new session if that gap exceeds session_gap
    withheld   a b | c d      time of c, in the session of c, no session token

The last two are functions of the history alone. A context is written into the rows; session tokens, segments, times and
RecBole's transforms then follow from these rows as in every other evaluation.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_session.data.batches import UNKNOWN_TIME
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import EvaluationLoader
from recbole_session.data.sequences import UserSequences
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.files import replacing, write_text
from recbole_session.run.build import build
from recbole_session.run.folder import AUDIT_FILES, BEST_FILE, CONTEXT_FILE, CONTEXTS, ranks_file
from recbole_session.run.ranks import ranks_csv
from recbole_session.run.run import Run, run_config

MAX_THREADS = 1024  # a result.json from a stranger may name any number


def audit_run(folder: Path, data_path: Path | None = None, model_class: type | None = None) -> None:
    """Evaluate the best epoch of a finished run in the three contexts, unless that is done already.

    Writes ``ranks-inferred.csv`` and ``ranks-withheld.csv``, in the form of ``ranks.csv``, and at last
    ``context.json``: the metrics by context and candidate set, and the facts of `compare_contexts`.

    ``data_path`` is where the datasets are, if no longer where the run found them; ``model_class`` is as in `Run`. If
    the folder holds no finished run, or the model, told all, does not give the ranks of ``ranks.csv``, it raises
    `InputError`.
    """
    if is_audited(folder):
        return
    run = Run(folder, model_class=model_class)
    with replacing(folder / CONTEXT_FILE) as temporary:
        dataset, ranks, facts = rank_in_contexts(run, data_path)
        if run.ranks().to_csv(index=False) != ranks_csv(dataset, ranks["told"]):
            made = ", ".join(f"{name} {value}" for name, value in run.result["environment"].items())
            raise InputError(
                f"{folder}: best.pth does not give the ranks of ranks.csv here, though the dataset is the same; audit "
                f"it where it was made ({made})"
            )
        for context in CONTEXTS[1:]:
            write_text(folder / ranks_file(context), ranks_csv(dataset, ranks[context]))
        content = {context: ranks[context].metrics for context in CONTEXTS} | facts
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def is_audited(folder: Path) -> bool:
    """Whether the folder holds an audit of its present ``best.pth``."""
    weights, files = folder / BEST_FILE, [folder / name for name in AUDIT_FILES]
    if not weights.is_file() or not all(file.is_file() for file in files):
        return False
    return min(file.stat().st_mtime_ns for file in files) > weights.stat().st_mtime_ns


def rank_in_contexts(run: Run, data_path: Path | None) -> tuple[SessionDataset, dict[str, SplitRanks], dict[str, Any]]:
    """Rank the test split of a finished run's dataset in every context, among the run's negatives.

    The device and the number of threads are those of the run: the last bits of a score depend on them. The result is
    the dataset, its ranks by context, and how often the inferred context is right, see `compare_contexts`.
    """
    environment = run.result["environment"]
    on_gpu = environment["device"].startswith("cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model, _ = run.model(device)
    parts = build(run_config(run.config, run.model_class, device, data_path), with_model=False)
    run.check_dataset(parts.dataset)
    config, dataset, evaluator, view = parts.config, parts.dataset, parts.evaluator, parts.test._dataset
    sequences, (users, ends) = dataset.sequences, dataset.samples["test"]
    inferred, withheld = inferred_context(sequences, users, ends, config["session_gap"]), withheld_context(ends)
    turns = targets_by_place(users)
    ranks = {}
    with _threads(environment["threads"]):
        ranks["told"] = evaluator.evaluate(model, parts.test, device, list(evaluator.negatives))
        for name, (times, opens) in (("inferred", inferred), ("withheld", withheld)):
            loaders = (
                EvaluationLoader(config, view.with_sequences(moved(sequences, ends, times, opens, turn), turn))
                for turn in turns
            )
            found = evaluator.evaluate(model, chain.from_iterable(loaders), device, list(evaluator.negatives))
            ranks[name] = found.reordered(torch.cat(turns).argsort())
    return dataset, ranks, compare_contexts(sequences, ends, inferred)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(count, MAX_THREADS)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


Context = tuple[Tensor, Tensor]  # when every target happens, int64 [n], and whether it opens a session, bool [n]


def inferred_context(sequences: UserSequences, users: Tensor, ends: Tensor, session_gap: float) -> Context:
    """Context that follows from a user's habits: the target comes a median gap after the previous event.

    It opens a session if that gap exceeds ``session_gap`` seconds, also where the dataset has sessions of its own.
    """
    gaps = median_gaps(sequences, users, ends)
    return sequences.times[ends - 1] + gaps, gaps > session_gap


def withheld_context(ends: Tensor) -> Context:
    """Context that says nothing: an unknown time, in the session of the previous event."""
    return torch.full_like(ends, UNKNOWN_TIME), torch.zeros_like(ends, dtype=torch.bool)


def median_gaps(sequences: UserSequences, users: Tensor, ends: Tensor) -> Tensor:
    """Median number of seconds between two events before each target, in whole seconds, int64 ``[n]``; 0 for one event.

    ``users`` and ``ends``, int64 ``[n]``, are the samples.
    """
    steps = sequences.times.diff().numpy()  # [N - 1], from every row to the next
    bounds = zip(sequences.offsets[users].tolist(), (ends - 1).tolist(), strict=True)
    return torch.tensor([int(np.median(steps[begin:end])) if begin < end else 0 for begin, end in bounds])


def targets_by_place(users: Tensor) -> list[Tensor]:
    """Samples by their place among those of their user: the first of every user, the second, ...; int64 each.

    They are moved in these turns, since moving a target changes the history of the user's later ones.
    """
    places = torch.arange(len(users)) - torch.searchsorted(users, users)
    return [(places == place).nonzero()[:, 0] for place in range(int(places.max()) + 1)]


def moved(sequences: UserSequences, ends: Tensor, times: Tensor, opens: Tensor, turn: Tensor) -> UserSequences:
    """Give the targets ``turn`` other times, in the session of the event before them or in a new one."""
    rows = ends[turn]
    new_times, sessions = sequences.times.clone(), sequences.sessions.clone()
    new_times[rows] = times[turn]
    sessions[rows] = sessions[rows - 1] + opens[turn].long()
    return replace(sequences, times=new_times, sessions=sessions)


def compare_contexts(sequences: UserSequences, ends: Tensor, inferred: Context) -> dict[str, Any]:
    """Count how often the inferred context is right.

    ``told_new_session`` and ``inferred_new_session`` of the ``targets`` open a session by the true and by the inferred
    context, and the two agree on ``inferred_right``. ``inferred_time_error`` is the median error in seconds.
    """
    times, inferred_opens = inferred
    opens = sequences.sessions[ends] != sequences.sessions[ends - 1]
    return {
        "targets": len(ends),
        "told_new_session": int(opens.sum()),
        "inferred_new_session": int(inferred_opens.sum()),
        "inferred_right": int((opens == inferred_opens).sum()),
        "inferred_time_error": float(np.median((sequences.times[ends] - times).abs().numpy())),
    }
