"""What a key may hold: a table of rules, and the sentences for values outside them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType

from recbole_session.config import rule_kinds as kinds
from recbole_session.errors import InputError, shown

SESSION_FEATURES = ("ST", "SSE", "TSA", "GAP")
CANDIDATE_SETS = ("random", "popular", "all")
ITEM_LOSSES = ("full_softmax", "sampled_softmax", "gbce")
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")
RANKING_METRICS = tuple(sorted(name for name, kind in metric_types.items() if kind == EvaluatorType.RANKING))
LARGEST_LAYERS = 10**10  # parameters of all layers together: 40 GB

_FIELD_KEYS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "RATING_FIELD", "SESSION_ID_FIELD")
_COLUMNS = kinds.mapping_of(
    kinds.one_of(["inter"]), kinds.list_of(kinds.FIELD), "{inter: [names of columns]}, as only .inter files are read"
)
_METRIC = kinds.Rule(
    # RecBole's dictionary also has what `evaluator.metrics.register_metric` added.
    lambda value: isinstance(value, str) and metric_types.get(value.lower()) == EvaluatorType.RANKING,
    f"one of {', '.join(RANKING_METRICS)}, or a metric of your own",
)
_TOPK = kinds.integer(1, 10_000)
_DEVICES = kinds.matches(r"[\w/-]{1,99}(,[\w/-]{1,99})*|", "a text such as '0,1'")
_SIZES = kinds.matches(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", "a text such as '500,100,20'")
_VALUES = kinds.mapping_of(
    kinds.FIELD, kinds.either(kinds.INTERVAL, kinds.TOKENS), "{column: '[3,inf)' or a list of tokens}"
)
_FULL = kinds.Rule(
    lambda value: value in ("full", {"valid": "full", "test": "full"}),
    "full (the candidate sets are chosen with eval_candidates)",
)
_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_NO_CACHE = kinds.Rule(
    lambda value: value is None or value is False, "~ or False (nothing is cached: batches are cut from flat arrays)"
)
_UNUSED = "no model here uses it"

_TABLE: list[tuple[str, kinds.Rule]] = [
    # Environment
    ("model dataset valid_candidates valid_metric", kinds.TEXT),
    ("data_path", kinds.PATH),
    ("checkpoint_dir", kinds.FOLDER),
    ("use_gpu reproducibility show_progress shuffle enable_amp enable_scaler torch_compile refit", kinds.TRUE_OR_FALSE),
    ("gpu_id", kinds.either(kinds.integer(0, 1023), _DEVICES)),
    ("worker", kinds.integer(0, 256)),
    ("seed negatives_seed", kinds.integer(0, 2**32 - 1)),
    ("state", kinds.or_none(kinds.one_of(_LEVELS, any_case=True))),
    ("log_wandb log_mlflow", kinds.TRUE_OR_FALSE),  # `run.loggers.check_loggers` asks for the packages
    ("wandb_project mlflow_experiment", kinds.FIELD),
    ("config_file", kinds.only(None, "name files in config_files")),
    # Data
    ("field_separator", kinds.matches(r"[\t ,;|!#$%&*/<=>?@\\^~\x01]", "one character, e.g. a tab, ',' or '|'")),
    ("encoding", kinds.or_none(kinds.ENCODING)),
    (" ".join(_FIELD_KEYS), kinds.FIELD),
    ("LABEL_FIELD NEG_PREFIX ITEM_LIST_LENGTH_FIELD LIST_SUFFIX POSITION_FIELD", kinds.FIELD),
    ("HEAD_ENTITY_ID_FIELD TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD", kinds.FIELD),
    ("load_col unload_col", kinds.or_none(_COLUMNS)),
    ("rm_dup_inter", kinds.or_none(kinds.one_of(["first", "last"]))),
    ("val_interval", kinds.or_none(_VALUES)),
    ("user_inter_num_interval item_inter_num_interval entity_kg_num_interval", kinds.or_none(kinds.INTERVAL)),
    ("relation_kg_num_interval", kinds.or_none(kinds.INTERVAL)),
    ("filter_inter_by_user_or_item", kinds.TRUE_OR_FALSE),
    ("normalize_all", kinds.or_none(kinds.TRUE_OR_FALSE)),
    ("session_gap", kinds.number(0, 10**12)),
    ("alias_of_user_id alias_of_item_id alias_of_entity_id alias_of_relation_id", kinds.only(None, _UNUSED)),
    ("additional_feat_suffix preload_weight discretization normalize_field", kinds.only(None, _UNUSED)),
    ("seq_len threshold unused_col", kinds.only(None, _UNUSED)),
    ("kg_reverse_r require_pow", kinds.only(False, _UNUSED)),
    ("numerical_features", kinds.only([], _UNUSED)),
    ("seq_separator", kinds.only(" ", _UNUSED)),
    ("benchmark_filename", kinds.only(None, "the split is made by time, from one .inter file")),
    ("save_dataset save_dataloaders dataset_save_path dataloaders_save_path", _NO_CACHE),
    # Training
    ("epochs train_batch_size eval_batch_size eval_step", kinds.integer(1)),
    ("stopping_step", kinds.integer(0)),
    ("train_time_limit", kinds.or_none(kinds.POSITIVE)),
    ("checkpoint_interval weight_decay reg_loss_ratio alpha", kinds.number(0)),
    ("learner", kinds.one_of(LEARNERS, any_case=True)),
    ("learning_rate layer_norm_eps initializer_range feature_scale temperature tau_ratio", kinds.POSITIVE),
    ("loss_decimal_place metric_decimal_place", kinds.integer(0, 15)),
    ("amp_dtype", kinds.one_of(["bfloat16", "float16"], any_case=True)),
    ("clip_grad_norm train_neg_sample_args", kinds.or_none(kinds.MAPPING)),
    ("clip_grad_norm.max_norm", kinds.POSITIVE),
    ("clip_grad_norm.norm_type", kinds.number(0, math.inf, open_minimum=True)),
    ("clip_grad_norm.error_if_nonfinite", kinds.only(False, "a loss that is not finite ends training anyway")),
    ("clip_grad_norm.foreach", kinds.or_none(kinds.TRUE_OR_FALSE)),
    ("train_neg_sample_args.distribution", kinds.one_of(["uniform", "popularity"])),
    ("train_neg_sample_args.sample_num", kinds.integer(1, 10_000)),
    ("train_neg_sample_args.alpha", kinds.number(0, 10)),
    ("train_neg_sample_args.dynamic", kinds.TRUE_OR_FALSE),
    ("train_neg_sample_args.candidate_num", kinds.integer(0, 10_000)),
    # Evaluation
    ("eval_args", kinds.MAPPING),
    ("eval_args.split", kinds.SPLIT),
    ("eval_args.order", kinds.one_of(["TO"])),
    ("eval_args.group_by", kinds.one_of(["user"])),
    ("eval_args.mode", _FULL),
    ("repeatable", kinds.only(True, "a user's history stays among the candidates")),
    ("eval_candidates", kinds.list_of(kinds.either(kinds.one_of(CANDIDATE_SETS), kinds.FILE))),
    ("num_negatives", kinds.integer(1, 10_000)),
    ("metrics", kinds.either(_METRIC, kinds.list_of(_METRIC))),
    ("topk", kinds.either(_TOPK, kinds.list_of(_TOPK))),
    ("tail_ratio", kinds.or_none(kinds.POSITIVE)),
    ("valid_metric_bigger", kinds.only(True, "valid_metric decides it")),
    # The plug-in's models
    ("session_features", kinds.subset_of(SESSION_FEATURES)),
    ("max_session_segments MAX_ITEM_LIST_LENGTH", kinds.integer(1, 10_000)),
    ("window_stride", kinds.or_none(kinds.number(0, 1, open_minimum=True))),
    ("item_loss", kinds.one_of(ITEM_LOSSES, any_case=True)),
    ("num_train_negatives", kinds.integer(1, 10**6)),
    ("tie_embeddings gated_layers joint_train use_out_emb", kinds.TRUE_OR_FALSE),
    ("gbce_calibration hide_context_ratio ft_ratio weight", kinds.PROBABILITY),
    ("n_neighbors sample_size", kinds.integer(1)),
    ("extend_length", kinds.integer(0)),
    ("reminder_weight idf_weight", kinds.number(0)),
    ("query_decay session_decay item_decay score_decay", kinds.POSITIVE),
    # RecBole's models, some keys of which are ours too
    ("hidden_size embedding_size temporal_dim", kinds.integer(1, 2**14)),
    ("inner_size", kinds.integer(1, 2**17)),
    ("n_layers n_heads num_layers", kinds.integer(1, 1000)),
    ("hidden_act", kinds.one_of(["gelu", "relu", "swish", "tanh", "sigmoid"])),
    ("hidden_dropout_prob attn_dropout_prob dropout_prob sess_dropout item_dropout", kinds.DROPOUT),
    ("dropout_probs", kinds.list_of(kinds.DROPOUT, length=2)),
    ("mask_ratio", kinds.number(0, 1, open_minimum=True)),
    ("loss_type", kinds.one_of(["CE", "BPR"])),
    ("reg_weight", kinds.either(kinds.number(0), kinds.list_of(kinds.number(0), length=2))),
    ("nh nv order_len high_order short_item_length k_interests", kinds.integer(1, 1000)),
    ("interest_size prototype_size step block_num kernel_size", kinds.integer(1, 1000)),
    ("dilations", kinds.list_of(kinds.integer(1, 1000), length=2)),
    ("dnn_type", kinds.one_of(["trm", "ave"])),
    ("pooling_type pooling_type_layer_1 pooling_type_layer_2", kinds.one_of(["average", "max"])),
    ("n_facet_all n_facet n_facet_context n_facet_reranker n_facet_hidden n_facet_emb", kinds.integer(0, 100)),
    ("n_facet_window n_facet_MLP", kinds.integer(-100, 0)),
    ("partition_merging_mode reranker_merging_mode", kinds.one_of(["replace", "add"])),
    ("context_norm use_proj_bias post_remove_context", kinds.integer(0, 1)),
    ("weight_mode", kinds.one_of(["", "dynamic", "static", "max_logits"])),
    ("reranker_CAN_NUM", kinds.either(kinds.integer(1), _SIZES)),
]
RULES: dict[str, kinds.Rule] = {key: rule for keys, rule in _TABLE for key in keys.split()}

# The keys within mappings.
NESTED_KEYS: dict[str, list[str]] = {
    outer: [key.removeprefix(f"{outer}.") for key in RULES if key.startswith(f"{outer}.")]
    for outer in ("eval_args", "train_neg_sample_args", "clip_grad_norm")
}


def check_value(key: str, value: object, default: object) -> None:
    """Refuse a value outside its rule, or, without one, of another type than the default's."""
    rule = RULES.get(key) or _rule_of_default(default)
    if key == "transform":
        rule = kinds.only(default, "the model decides it")
    elif key == "reg_weight" and default is not None:
        rule = kinds.list_of(kinds.number(0), length=2) if isinstance(default, list) else kinds.number(0)
    if rule is not None and not rule.allows(value):
        raise InputError(f"{key} is {shown(value)}; allowed: {rule.words}")


def _rule_of_default(default: object) -> kinds.Rule | None:
    """Type check for a key without a rule, such as a new model's; None where anything may be given."""
    if isinstance(default, bool):
        return kinds.or_none(kinds.TRUE_OR_FALSE)
    if isinstance(default, int | float):
        return kinds.or_none(kinds.number(-(10**12), 10**12))
    if isinstance(default, str):
        return kinds.or_none(kinds.TEXT)
    return kinds.or_none(kinds.MAPPING) if isinstance(default, Mapping) else None


def check_combination(values: Mapping[str, Any]) -> None:
    """Refuse final ``values`` of keys that are allowed one by one but not together."""
    _check_fields(values)
    _check_training(values)
    entries, chosen, valid_metric = (values[key] for key in ("eval_candidates", "valid_candidates", "valid_metric"))
    sets = [entry if entry in CANDIDATE_SETS else Path(entry).stem for entry in entries]
    _demand(len(set(sets)) == len(sets), f"eval_candidates is {entries!r}", "sets with different names")
    allowed = f"one of eval_candidates, {', '.join(sets)}"
    _demand(chosen in sets, f"valid_candidates is {chosen!r}", allowed)
    topk = values["topk"] if isinstance(values["topk"], list) else [values["topk"]]
    metrics = [metric.lower() for metric in values["metrics"]]
    names = list(dict.fromkeys(metric if metric == "gauc" else f"{metric}@{k}" for metric in metrics for k in topk))
    if valid_metric.lower() not in names:
        raise InputError(f"valid_metric is {valid_metric!r}; allowed, by metrics and topk: {', '.join(names)}")


def _demand(is_right: bool, found: str, allowed: str) -> None:
    if not is_right:
        raise InputError(f"{found}; allowed: {allowed}")


def _check_fields(values: Mapping[str, Any]) -> None:
    """Refuse names of columns that collide, with each other or with what a batch adds to them."""
    names = {key: values[key] for key in (*_FIELD_KEYS, "ITEM_LIST_LENGTH_FIELD")}
    suffix, prefix, item = values["LIST_SUFFIX"], values["NEG_PREFIX"], values["ITEM_ID_FIELD"]
    for key in _FIELD_KEYS:
        names |= {f"{key} with LIST_SUFFIX": values[key] + suffix, f"{key} with NEG_PREFIX": prefix + values[key]}
    added = ["item_seq", "session_seq", "time_seq", "MASK_INDEX", f"Mask_{item}{suffix}", f"Inverse_{item}{suffix}"]
    keys = dict.fromkeys([*added, f"Pos_{item}", f"Neg_{item}"], "a column of batches")
    for key, name in names.items():
        _demand(name not in keys, f"{key} is {name!r}, and so is {keys.get(name)}", "different names")
        keys[name] = key
    load, unload = values["load_col"], values["unload_col"]
    _demand(not (load and unload), f"load_col is {load!r} and unload_col {unload!r}", "one of them")


def _check_training(values: Mapping[str, Any]) -> None:
    """Refuse sizes and settings of training that do not go together."""
    width = "hidden_size" if "hidden_size" in values else "embedding_size"
    size, n_heads, n_layers, inner = (values.get(key) or 0 for key in (width, "n_heads", "n_layers", "inner_size"))
    words = f"a {width} that n_heads divides"
    _demand(not n_heads or size % n_heads == 0, f"{width} is {size} and n_heads {n_heads}", words)
    parameters = n_layers * size * (4 * size + 2 * inner)
    found = f"n_layers is {n_layers}, {width} {size} and inner_size {inner}, which makes {parameters:,} parameters"
    _demand(parameters <= LARGEST_LAYERS, found, f"at most {LARGEST_LAYERS:,}")
    clipping, negatives = values["clip_grad_norm"], values["train_neg_sample_args"] or {}
    words = "one of them, as RecBole clips the gradients while they are scaled; amp_dtype=bfloat16 needs no scaler"
    _demand(not (values["enable_scaler"] and clipping), f"enable_scaler is True and clip_grad_norm {clipping}", words)
    _demand(not clipping or "max_norm" in clipping, f"clip_grad_norm is {clipping}", "a mapping with max_norm")
    is_drawn = not negatives.get("dynamic") or bool(negatives.get("candidate_num"))
    _demand(is_drawn, f"train_neg_sample_args is {negatives}", "dynamic: True with a candidate_num of at least 1")
    decay, weights = values["weight_decay"], values.get("reg_weight")
    found = f"weight_decay is {decay} and reg_weight {weights}"
    _demand(not (decay and isinstance(weights, list)), found, "one of them, as RecBole compares the two")
