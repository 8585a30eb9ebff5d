from pathlib import Path
from typing import Any

import pytest

from recbole_session.config.models import keys_of_all_models
from recbole_session.config.rule_kinds import Rule, integer, list_of, number, one_of, or_none, subset_of
from recbole_session.config.rules import NESTED_KEYS, RANKING_METRICS, RULES, check_combination, check_value
from recbole_session.config.session_config import SessionConfig, known_keys
from recbole_session.config.values import parse_yaml
from recbole_session.errors import InputError, nearest

NAN, INF = float("nan"), float("inf")
LS = {"LS": "valid_and_test"}

# Key, values that it takes, values that it does not take.
TABLE: list[tuple[str, list[Any], list[Any]]] = [
    (
        "session_features",
        [[], ["ST"], ["TSA", "ST"], ["ST", "SSE", "TSA"]],
        [["STT"], ["st"], ["ST", "ST"], "ST", None, [["ST"]], ("ST",), [1]],
    ),
    ("max_session_segments", [1, 5], [0, -1, 2.0, "3", True, None]),
    ("temporal_dim", [1, 16], [0, -1, 1.5, None]),
    ("session_gap", [0, 0.5, 86_400], [-1, "1d", None, NAN]),
    (
        "eval_candidates",
        [["all"], ["random", "popular"]],
        [[], "random", ["rand"], ["no/such.csv"], [3], None],
    ),
    ("num_negatives", [1, 100], [0, -5, 1.0, None]),
    ("negatives_seed", [0, 7], [-1, 0.5, "a"]),
    ("train_time_limit", [None, 0.5, 60], [0, -1, "1h"]),
    ("refit", [True, False], [1, None, "yes"]),
    ("epochs", [1], [0, "5", 1.5, False]),
    ("train_batch_size", [1], [0]),
    ("eval_batch_size", [1], [0]),
    ("eval_step", [1], [0]),
    ("stopping_step", [0, 3], [-1]),
    ("learner", ["adam", "AdamW"], ["adamm", "sparse_adam", "", None, 3]),
    ("learning_rate", [1e-9, 1], [0, -0.1, NAN, "fast", True]),
    ("weight_decay", [0, 0.05], [-1e-9, None]),
    ("hidden_dropout_prob", [0, 0.0, 0.99], [1, -0.1, 1.5]),
    ("mask_ratio", [0.01, 1], [0, 1.01, -1]),
    ("ft_ratio", [0, 1], [-0.1, 1.1]),
    ("item_loss", ["full_softmax", "gBCE"], ["CE", "bce", None]),
    ("num_train_negatives", [1, 4096], [0, 0.5, None]),
    ("gbce_calibration", [0, 0.75, 1], [-0.1, 1.1, "high"]),
    ("MAX_ITEM_LIST_LENGTH", [1], [0, "50"]),
    ("metrics", ["recall", ["NDCG", "giniindex"]], [[], ["Recal"], "AUC", ["RMSE"], None, [10]]),
    ("topk", [10, [1, 5]], [0, [], [5, 0], "10", [2.5], None]),
    ("gpu_id", [0, "0,1", ""], [-1, None, [0]]),
    ("eval_args.split", [LS], [{"RS": [0.8, 0.1, 0.1]}, {"LS": "test_only"}, "LS", None, {**LS, "RS": [1]}]),
    ("eval_args.order", ["TO"], ["RO", None]),
    ("eval_args.group_by", ["user"], ["none", None]),
    (
        "eval_args.mode",
        ["full", {"valid": "full", "test": "full"}],
        ["uni100", "pop100", {"vald": "full"}, None],
    ),
    ("repeatable", [True], [False, None, 1.5]),
    ("save_dataset", [False, None], [True, "saved"]),
    ("save_dataloaders", [False, None], [True]),
    ("dataset_save_path", [None], ["a.pth"]),
    ("dataloaders_save_path", [None], ["a.pth"]),
    ("load_col", [None, {"inter": ["user_id"]}], [["user_id"], "inter"]),
    ("benchmark_filename", [None], [["train", "test"]]),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values, _ in TABLE for value in values])
def test_takes(key: str, value: object) -> None:
    assert check_value(key, value, default=None) is None


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, _, values in TABLE for value in values])
def test_refuses_in_one_sentence_with_key_value_and_what_is_allowed(key: str, value: object) -> None:
    with pytest.raises(InputError) as error:
        check_value(key, value, default=None)
    assert str(error.value) == f"{key} is {value!r}; allowed: {RULES[key].words}"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", sorted(RULES))
def test_every_rule_refuses_nonsense_without_stumbling(key: str) -> None:
    with pytest.raises(InputError, match="; allowed: "):
        check_value(key, {1}, default=None)


def test_rules_within_mappings_are_for_keys_that_exist() -> None:
    inner = {key for key in RULES if "." in key}
    assert inner <= {f"{outer}.{key}" for outer, keys in NESTED_KEYS.items() for key in keys}


def test_a_file_of_negatives_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    with pytest.raises(InputError, match="or the path of a file"):
        check_value("eval_candidates", ["all", str(path)], None)
    path.write_text("user_id,item_id\n")
    check_value("eval_candidates", ["all", str(path)], None)
    with pytest.raises(InputError):
        check_value("eval_candidates", [str(tmp_path)], None)


def test_metrics_are_recboles_metrics_of_rankings() -> None:
    assert set(RANKING_METRICS) == {
        "hit", "mrr", "map", "recall", "ndcg", "precision", "gauc",
        "itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("default", "takes", "refuses", "words"),
    [
        (True, [False, None], ["maybe", 1], "True or False, or ~"),
        (4, [0, -2, 2.5, None], ["x", True, [1], NAN, INF], "a number of at least -1e+12 and at most 1e+12, or ~"),
        (0.5, [1, None], ["x", False], "a number"),
        ({"a": 1}, [{}, None], ["a", [1]], "a mapping of keys to values, or ~"),
    ],
)
def test_a_key_without_a_rule_keeps_the_type_of_its_default(
    default: object, takes: list[object], refuses: list[object], words: str
) -> None:
    for value in takes:
        check_value("some_key", value, default)
    for value in refuses:
        with pytest.raises(InputError) as error:
            check_value("some_key", value, default)
        assert str(error.value).startswith(f"some_key is {value!r}; allowed: {words}")


@pytest.mark.parametrize("default", [None, [1, 2]])
def test_a_key_without_rule_and_type_takes_anything(default: object) -> None:
    for value in ("a", 1, [2], {"b": 3}, None):
        check_value("some_key", value, default)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (integer(2), "a whole number from 2 to 1,000,000,000"),
        (number(0), "a number of at least 0 and at most 1e+09"),
        (number(0, open_minimum=True), "a number greater than 0 and at most 1e+09"),
        (number(0, 1), "a number of at least 0 and at most 1"),
        (number(0, 1, open_maximum=True), "a number of at least 0 and less than 1"),
        (number(0, 0.5, open_minimum=True), "a number greater than 0 and at most 0.5"),
        (one_of(["a", "b"]), "one of a, b"),
        (subset_of(["a", "b"]), "a list out of [a, b], none twice"),
        (or_none(integer(1, 3)), "a whole number from 1 to 3, or ~"),
        (list_of(one_of(["a"])), "a list in which each is one of a"),
    ],
)
def test_words_say_what_is_allowed(rule: Rule, words: str) -> None:
    assert rule.words == words


@pytest.mark.parametrize(
    ("rule", "value", "allowed"),
    [
        (number(0, 1), 0, True),
        (number(0, 1), 1, True),
        (number(0, 1, open_minimum=True), 0, False),
        (number(0, 1, open_maximum=True), 1, False),
        (number(0, 1), NAN, False),
        (number(0), INF, False),
        (number(0), True, False),
        (integer(1), True, False),
        (integer(1), 1.0, False),
    ],
)
def test_bounds_belong_unless_open(rule: Rule, value: float, allowed: bool) -> None:
    assert rule.allows(value) is allowed


def combination(**keys: object) -> dict[str, Any]:
    base = SessionConfig("SessionBERT4Rec", "toy").resolved
    base.update(eval_candidates=["random", "all"], hidden_size=8, topk=[5, 10])
    return {**base, **keys}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"hidden_size": 8, "n_heads": 2},
        {"hidden_size": 7, "n_heads": 7},
        {"valid_metric": "ndcg@10"},
        {"valid_metric": "recall@5"},
        {"metrics": ["gauc"], "valid_metric": "GAUC"},
        {"eval_candidates": ["random", "some/own.csv"], "valid_candidates": "own"},
        {"enable_scaler": True, "clip_grad_norm": None},
        {"enable_scaler": False, "clip_grad_norm": {"max_norm": 1}},
    ],
)
def test_combination_is_taken(keys: dict[str, object]) -> None:
    assert check_combination(combination(**keys)) is None


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"hidden_size": 8, "n_heads": 3},
            "hidden_size is 8 and n_heads 3; allowed: a hidden_size that n_heads divides",
        ),
        (
            {"valid_candidates": "popular"},
            "valid_candidates is 'popular'; allowed: one of eval_candidates, random, all",
        ),
        (
            {"eval_candidates": ["random", "random"]},
            "eval_candidates is ['random', 'random']; allowed: sets with different names",
        ),
        (
            {"eval_candidates": ["random", "a/own.csv", "b/own.csv"]},
            "eval_candidates is ['random', 'a/own.csv', 'b/own.csv']; allowed: sets with different names",
        ),
        (
            {"eval_candidates": ["random", "a/random.csv"]},
            "eval_candidates is ['random', 'a/random.csv']; allowed: sets with different names",
        ),
        (
            {"valid_metric": "NDCG@20"},
            "valid_metric is 'NDCG@20'; allowed, by metrics and topk: recall@5, recall@10, ndcg@5, ndcg@10",
        ),
        (
            {"valid_metric": "MRR@10", "metrics": ["gauc", "Hit"]},
            "valid_metric is 'MRR@10'; allowed, by metrics and topk: gauc, hit@5, hit@10",
        ),
        (
            {"enable_scaler": True, "clip_grad_norm": {"max_norm": 1}},
            "enable_scaler is True and clip_grad_norm {'max_norm': 1}; allowed: one of them, as RecBole clips the "
            "gradients while they are scaled; amp_dtype=bfloat16 needs no scaler",
        ),
        (
            {"USER_ID_FIELD": "item_id"},
            "ITEM_ID_FIELD is 'item_id', and so is USER_ID_FIELD; allowed: different names",
        ),
        (
            {"ITEM_LIST_LENGTH_FIELD": "item_id"},
            "ITEM_LIST_LENGTH_FIELD is 'item_id', and so is ITEM_ID_FIELD; allowed: different names",
        ),
        (
            {"LIST_SUFFIX": "_x", "SESSION_ID_FIELD": "item_id_x"},
            "ITEM_ID_FIELD with LIST_SUFFIX is 'item_id_x', and so is SESSION_ID_FIELD; allowed: different names",
        ),
        (
            {"USER_ID_FIELD": "item_seq"},
            "USER_ID_FIELD is 'item_seq', and so is a column of batches; allowed: different names",
        ),
        (
            {"load_col": {"inter": ["a"]}, "unload_col": {"inter": ["b"]}},
            "load_col is {'inter': ['a']} and unload_col {'inter': ['b']}; allowed: one of them",
        ),
        (
            {"hidden_size": 2**14, "n_layers": 1000},
            "n_layers is 1000, hidden_size 16384 and inner_size 256, which makes 1,082,130,432,000 parameters; "
            "allowed: at most 10,000,000,000",
        ),
        ({"clip_grad_norm": {"norm_type": 2}}, "clip_grad_norm is {'norm_type': 2}; allowed: a mapping with max_norm"),
        (
            {"train_neg_sample_args": {"dynamic": True}},
            "train_neg_sample_args is {'dynamic': True}; allowed: dynamic: True with a candidate_num of at least 1",
        ),
        (
            {"reg_weight": [0.1, 0.1]},
            "weight_decay is 0.05 and reg_weight [0.1, 0.1]; allowed: one of them, as RecBole compares the two",
        ),
    ],
)  # fmt: skip
def test_combination_is_refused(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        check_combination(combination(**keys))
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("session_feature", "; did you mean 'session_features'?"),
        ("SASREC", "; did you mean 'SASRec'?"),
        ("max_item_list_length", "; did you mean 'MAX_ITEM_LIST_LENGTH'?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_nearest_name_in_its_own_spelling(name: str, hint: str) -> None:
    assert nearest(name, ["session_features", "SASRec", "MAX_ITEM_LIST_LENGTH", "epochs"]) == hint


# ---- hostile values

CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: Any = 1
for _ in range(5000):
    DEEP = [DEEP]
HOSTILE: list[Any] = [
    None, "", "\0", "\ud800", " ", "\n", "a" * 300, "x" * 100_000, "9" * 100_000, "a/../b", ":", "~", "nan", "1e999",
    True, False, -1, 0, 1, 2, 10**5, 10**30, -(10**30), 10**5000, 0.5, -0.5, 1e-300, 1e300, NAN, INF, -INF,
    [], [None], [[]], [""], ["a", "a"], [1, 1], [0, 0], [NAN], [10**5000], {}, {"": ""}, {"a": None}, {None: 1},
    {"inter": []}, {"inter": ["\0"]}, {"inter": "x"}, {"user": ["a"]}, {"max_norm": "x"}, {"max_norm": 0},
    {"sample_num": 0}, {"mode": {}}, {"a": "[5,1)"}, "[5,1)", "[nan,1)", "[1,", CYCLE, DEEP, object(), {1, 2}, b"x",
    (1, 2), dict, "__import__('os')",
]  # fmt: skip
DEFAULTS = SessionConfig("SessionSASRec", "toy").internal_config_dict
ALL_KEYS = sorted(keys_of_all_models() | known_keys(DEFAULTS))


def test_every_known_key_has_a_rule() -> None:
    assert set(ALL_KEYS) - set(RULES) == {"transform"}


def assert_is_a_sentence(error: InputError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 1200
    str(error).encode()


@pytest.mark.parametrize("key", ALL_KEYS)
def test_a_hostile_value_is_one_sentence_or_a_configuration_that_builds(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    names = {"model": "SessionSASRec", "dataset": "toy"}
    for value in HOSTILE:
        try:
            check_value(key, value, DEFAULTS.get(key))
            config = SessionConfig(config_dict={**names, key: value})
        except InputError as error:
            assert_is_a_sentence(error)
        else:
            assert SessionConfig(config_dict=parse_yaml(config.dump(), "")).resolved == config.resolved
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_a_hostile_value_at_any_depth_is_one_sentence(value: Any) -> None:
    for given in ({"epochs": value}, {"eval_args": {"split": value}}, {"no_such_key": value}, {"metrics": [value]}):
        if value not in (1, 2, True, 10**5):
            with pytest.raises(InputError) as error:
                SessionConfig("SASRec", "toy", config_dict=given)
            assert_is_a_sentence(error.value)
