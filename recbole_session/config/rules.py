"""What a key may hold: a table of rules, and the sentences for values outside them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType

from recbole_session.errors import InputError

SESSION_FEATURES = ("ST", "SSE", "TSA", "GAP")
CANDIDATE_SETS = ("random", "popular", "all")
ITEM_LOSSES = ("full_softmax", "sampled_softmax", "gbce")
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
RANKING_METRICS = tuple(sorted(name for name, kind in metric_types.items() if kind == EvaluatorType.RANKING))


@dataclass(frozen=True)
class Rule:
    """The values that a key may hold: a test, and the words for it."""

    allows: Callable[[Any], bool]
    words: str


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def integer(minimum: int, maximum: int | None = None) -> Rule:
    """Whole numbers from ``minimum`` on, up to ``maximum``."""
    if maximum is not None:
        return Rule(
            lambda value: _is_number(value, int) and minimum <= value <= maximum,
            f"a whole number from {minimum} to {maximum}",
        )
    return Rule(lambda value: _is_number(value, int) and value >= minimum, f"a whole number of at least {minimum}")


def number(
    minimum: float, maximum: float = float("inf"), *, open_minimum: bool = False, open_maximum: bool = False
) -> Rule:
    """Numbers between two bounds, which belong to it unless they are open."""

    def allows(value: Any) -> bool:
        if not _is_number(value, (int, float)) or not math.isfinite(value):
            return False
        above = value > minimum if open_minimum else value >= minimum
        return above and (value < maximum if open_maximum else value <= maximum)

    left = f"greater than {minimum:g}" if open_minimum else f"of at least {minimum:g}"
    right = "" if maximum == float("inf") else f" and {'less than' if open_maximum else 'at most'} {maximum:g}"
    return Rule(allows, f"a number {left}{right}")


def one_of(choices: Collection[str]) -> Rule:
    """One of some words, in any case."""
    return Rule(
        lambda value: isinstance(value, str) and value.lower() in {choice.lower() for choice in choices},
        f"one of {', '.join(choices)}",
    )


def subset_of(choices: Collection[str]) -> Rule:
    """A list out of some words, none of them twice; the empty list too."""
    return Rule(
        lambda value: (
            isinstance(value, list)
            and all(isinstance(entry, str) and entry in choices for entry in value)
            and len(set(value)) == len(value)
        ),
        f"a list out of [{', '.join(choices)}], none twice",
    )


def or_none(rule: Rule) -> Rule:
    """What ``rule`` allows, and ``~``."""
    return Rule(lambda value: value is None or rule.allows(value), f"{rule.words}, or ~")


def list_of(rule: Rule) -> Rule:
    """A list, not empty, of what ``rule`` allows."""
    return Rule(
        lambda value: isinstance(value, list) and len(value) > 0 and all(map(rule.allows, value)),
        f"a list in which each is {rule.words}",
    )


def either(first: Rule, second: Rule) -> Rule:
    """What one of two rules allows."""
    return Rule(lambda value: first.allows(value) or second.allows(value), f"{first.words}, or {second.words}")


TRUE_OR_FALSE = Rule(lambda value: isinstance(value, bool), "True or False")
TEXT = Rule(lambda value: isinstance(value, str), "a text")
MAPPING = Rule(lambda value: isinstance(value, Mapping), "a mapping of keys to values")
PROBABILITY = number(0, 1)
DROPOUT = number(0, 1, open_maximum=True)
METRIC = one_of(RANKING_METRICS)
CANDIDATES = Rule(
    lambda value: isinstance(value, str) and (value in CANDIDATE_SETS or Path(value).is_file()),
    f"one of {', '.join(CANDIDATE_SETS)} or the path of a CSV file of negatives",
)
NO_CACHE = Rule(
    lambda value: value in (None, False), "~ or False (nothing is cached: batches are cut from flat arrays)"
)


def is_split(value: object) -> bool:
    """Whether this is one of the splits that `data.splits` makes."""
    if value in ({"LS": "valid_and_test"}, {"SS": "valid_and_test"}):
        return True
    parts = value.get("TS") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(parts, list) or not all(_is_number(part, (int, float)) and part > 0 for part in parts):
        return False
    return len(parts) == 3 or (len(parts) == 2 and parts[0] < parts[1])


RULES: dict[str, Rule] = {
    "data_path": TEXT,
    "checkpoint_dir": TEXT,
    "SESSION_ID_FIELD": TEXT,
    "USER_ID_FIELD": TEXT,
    "ITEM_ID_FIELD": TEXT,
    "TIME_FIELD": TEXT,
    "session_features": subset_of(SESSION_FEATURES),
    "max_session_segments": integer(1),
    "temporal_dim": integer(1),
    "session_gap": number(0),
    "eval_candidates": list_of(CANDIDATES),
    "num_negatives": integer(1),
    "negatives_seed": integer(0, 2**32 - 1),
    "train_time_limit": or_none(number(0, open_minimum=True)),
    "checkpoint_interval": number(0),
    "amp_dtype": one_of(["bfloat16", "float16"]),
    "load_col": or_none(MAPPING),
    "loss_type": one_of(["CE", "BPR"]),
    "seed": integer(0, 2**32 - 1),
    "epochs": integer(1),
    "train_batch_size": integer(1),
    "eval_batch_size": integer(1),
    "eval_step": integer(1),
    "stopping_step": integer(0),
    "learner": one_of(LEARNERS),
    "learning_rate": number(0, open_minimum=True),
    "weight_decay": number(0),
    "n_layers": integer(1),
    "n_heads": integer(1),
    "hidden_size": integer(1),
    "inner_size": integer(1),
    "hidden_dropout_prob": DROPOUT,
    "attn_dropout_prob": DROPOUT,
    "dropout_prob": DROPOUT,
    "layer_norm_eps": number(0, open_minimum=True),
    "initializer_range": number(0, open_minimum=True),
    "mask_ratio": number(0, 1, open_minimum=True),
    "ft_ratio": PROBABILITY,
    "item_loss": one_of(ITEM_LOSSES),
    "n_neighbors": integer(1),
    "sample_size": integer(1),
    "extend_length": integer(0),
    "reminder_weight": number(0),
    "query_decay": number(0, open_minimum=True),
    "session_decay": number(0, open_minimum=True),
    "item_decay": number(0, open_minimum=True),
    "tie_embeddings": TRUE_OR_FALSE,
    "gated_layers": TRUE_OR_FALSE,
    "hide_context_ratio": PROBABILITY,
    "num_train_negatives": integer(1),
    "gbce_calibration": PROBABILITY,
    "MAX_ITEM_LIST_LENGTH": integer(1),
    "metrics": either(METRIC, list_of(METRIC)),
    "topk": either(integer(1), list_of(integer(1))),
    "metric_decimal_place": integer(0),
    "gpu_id": either(integer(0), TEXT),
    "worker": integer(0),
    "train_neg_sample_args": or_none(MAPPING),
    "clip_grad_norm": or_none(MAPPING),
    "eval_args": MAPPING,
    "train_neg_sample_args.distribution": one_of(["uniform", "popularity"]),
    "train_neg_sample_args.sample_num": integer(1),
    "train_neg_sample_args.alpha": number(0),
    "train_neg_sample_args.dynamic": TRUE_OR_FALSE,
    "train_neg_sample_args.candidate_num": integer(0),
    "eval_args.split": Rule(
        is_split,
        "{LS: valid_and_test} (leave one out), {SS: valid_and_test} (each user's last two sessions) or {TS: [...]} "
        "with two moments in seconds, or three shares of the rows",
    ),
    "eval_args.order": one_of(["TO"]),
    "eval_args.group_by": one_of(["user"]),
    "eval_args.mode": Rule(
        lambda value: value in ("full", {"valid": "full", "test": "full"}),
        "full (the candidate sets are chosen with eval_candidates)",
    ),
    "repeatable": Rule(lambda value: value is True, "True (a user's history stays among the candidates)"),
    "save_dataset": NO_CACHE,
    "save_dataloaders": NO_CACHE,
    "dataset_save_path": NO_CACHE,
    "dataloaders_save_path": NO_CACHE,
    "val_interval": or_none(MAPPING),
    "threshold": or_none(MAPPING),
    "unload_col": or_none(MAPPING),
    "unused_col": or_none(MAPPING),
    "benchmark_filename": Rule(lambda value: value is None, "~ (the split is made by time, from one .inter file)"),
}

# The keys within mappings.
NESTED_KEYS: dict[str, Collection[str]] = {
    "eval_args": ("split", "order", "group_by", "mode"),
    "train_neg_sample_args": ("distribution", "sample_num", "alpha", "dynamic", "candidate_num"),
    "clip_grad_norm": ("max_norm", "norm_type", "error_if_nonfinite", "foreach"),
}


def check_value(key: str, value: object, default: object) -> None:
    """Refuse a value outside its rule, or, without one, of another type than the default's.

    Raises
    ------
    InputError
        Naming key, value and what is allowed.
    """
    rule = RULES.get(key) or _rule_of_default(default)
    if rule is not None and not rule.allows(value):
        raise InputError(f"{key} is {value!r}; allowed: {rule.words}")


def _rule_of_default(default: object) -> Rule | None:
    """Type check for the keys of RecBole that have no rule; None where anything may be given."""
    if isinstance(default, bool):
        return or_none(TRUE_OR_FALSE)
    if isinstance(default, (int, float)):
        return or_none(Rule(lambda value: _is_number(value, (int, float)), "a number"))
    if isinstance(default, Mapping):
        return or_none(MAPPING)
    return None


def check_combination(values: Mapping[str, Any], topk: Collection[int]) -> None:
    """Refuse values that are allowed each but not together.

    Parameters
    ----------
    values : Mapping
        All keys with their final values.
    topk : Collection of int
        The values of ``topk``.

    Raises
    ------
    InputError
        Naming the keys, their values and what is allowed.
    """
    hidden_size, n_heads = values.get("hidden_size"), values.get("n_heads")
    if hidden_size and n_heads and hidden_size % n_heads:
        raise InputError(
            f"hidden_size is {hidden_size} and n_heads {n_heads}; allowed: a hidden_size that n_heads divides"
        )
    if values.get("enable_scaler") and values.get("clip_grad_norm"):
        raise InputError(
            f"enable_scaler is {values['enable_scaler']} and clip_grad_norm {values['clip_grad_norm']}; allowed: one "
            "of them, as RecBole clips the gradients while they are scaled; amp_dtype=bfloat16 needs no scaler"
        )
    candidates = [Path(entry).stem if entry not in CANDIDATE_SETS else entry for entry in values["eval_candidates"]]
    if len(set(candidates)) < len(candidates):
        raise InputError(f"eval_candidates is {values['eval_candidates']!r}; allowed: sets with different names")
    if values["valid_candidates"] not in candidates:
        raise InputError(
            f"valid_candidates is {values['valid_candidates']!r}; "
            f"allowed: one of eval_candidates, {', '.join(candidates)}"
        )
    metrics = [metric.lower() for metric in values["metrics"]]
    allowed = [metric if metric == "gauc" else f"{metric}@{k}" for metric in metrics for k in topk]
    if str(values["valid_metric"]).lower() not in allowed:
        raise InputError(
            f"valid_metric is {values['valid_metric']!r}; "
            f"allowed, by metrics and topk: {', '.join(dict.fromkeys(allowed))}"
        )


def nearest(name: object, known: Collection[str]) -> str:
    """Words that point from an unknown name to the nearest known one, or nothing."""
    lower = {entry.lower(): entry for entry in known}
    matches = difflib.get_close_matches(str(name).lower(), list(lower), n=1, cutoff=0.5)
    return f"; did you mean {lower[matches[0]]!r}?" if matches else ""
