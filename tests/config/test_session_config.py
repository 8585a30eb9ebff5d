import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recbole.model.sequential_recommender import SASRec
from recbole.utils.argument_list import dataset_arguments

from recbole_session.config.models import available_models, find_model
from recbole_session.config.session_config import SessionConfig
from recbole_session.config.values import deep_merge, parse_command_line, parse_yaml, read_yaml_file
from recbole_session.errors import InputError

GPU = "CUDA_VISIBLE_DEVICES"
CODE = '__import__("os").getpid()'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the visible GPUs back after every test."""
    monkeypatch.setenv(GPU, "untouched")


def refusal(*args: Any, **kwargs: Any) -> str:
    """Sentence of the InputError that SessionConfig raises."""
    with pytest.raises(InputError) as error:
        SessionConfig(*args, **kwargs)
    sentence = str(error.value)
    assert sentence
    assert "\n" not in sentence
    return sentence


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# ---- precedence


def test_each_source_wins_over_those_before(tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml", "epochs: 11\nseed: 1\ntopk: [10, 11]\n")
    second = write(tmp_path / "second.yaml", "epochs: 12\nseed: 2\n")

    def epochs(files: list[Path] | None = None, given: dict[str, Any] | None = None, *line: str) -> int:
        return SessionConfig("SASRec", "toy", files, given, line)["epochs"]

    assert epochs() == 300  # RecBole's
    assert epochs([first]) == 11
    assert epochs([first, second]) == 12
    assert epochs([second, first]) == 11
    assert epochs([first, second], {"epochs": 13}) == 13
    assert epochs([first, second], {"epochs": 13}, "--epochs=14") == 14
    mixed = SessionConfig("SASRec", "toy", [first, second], {"eval_step": 3}, ["--stopping_step=4"])
    assert (mixed["topk"], mixed["seed"], mixed["eval_step"], mixed["stopping_step"]) == ([10, 11], 2, 3, 4)


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("SASRec", "loss_decimal_place", 4),  # RecBole's, untouched
        ("SASRec", "eval_batch_size", 512),  # the plug-in's over RecBole's 4096
        ("SASRec", "metrics", ["Recall", "NDCG"]),
        ("SASRec", "valid_metric", "NDCG@10"),
        ("SASRec", "hidden_size", 64),  # RecBole's SASRec.yaml
        ("SASRec", "load_col", None),
        ("SASRec", "learner", "adam"),
        ("SessionBERT4Rec", "learner", "adamw"),  # the plug-in's file of the model
        ("SessionBERT4Rec", "learning_rate", 0.005),
        ("SessionBERT4Rec", "layer_norm_eps", 1e-12),
        ("SessionBERT4Rec", "session_features", ["ST", "SSE", "TSA"]),
        ("Pop", "epochs", 1),
        ("Pop", "session_gap", 86_400),
    ],
)
def test_defaults(model: str, key: str, value: object) -> None:
    assert SessionConfig(model, "toy")[key] == value


def test_ml_100k_is_a_dataset_like_the_others() -> None:
    config = SessionConfig("SASRec", "ml-100k", config_dict={"data_path": "mine"})
    assert config["data_path"] == str(Path("mine") / "ml-100k")
    assert config["normalize_all"] is None
    assert config["load_col"] is None


def test_files_of_the_command_line_follow_those_of_the_caller(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.yaml", f"epochs: {name}\nseed: {name}\n") for name in (1, 2, 3)]
    line = [f"--config_files={paths[1]}  {paths[2]}", "--seed=9"]
    config = SessionConfig("SASRec", "toy", [paths[0]], command_line=line)
    assert (config["epochs"], config["seed"]) == (3, 9)
    assert "config_files" not in config.resolved


def test_model_and_dataset_may_come_from_any_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "model: SASRec\ndataset: from-file\n")
    config = SessionConfig(config_file_list=[path], command_line=["--dataset=from-line"])
    assert (config["model"], config["dataset"], config["model_class"]) == ("SASRec", "from-line", SASRec)
    by_class = SessionConfig(SASRec, "toy", [path])
    assert (by_class["model"], by_class["dataset"], by_class["model_class"]) == ("SASRec", "toy", SASRec)


# ---- merging


def test_mappings_merge_key_by_key_and_split_as_a_whole() -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "split": {"RS": [8, 1, 1]}, "n": None, "keep": [1]}
    above = {"a": {"y": {"w": 3}}, "split": {"LS": "both"}, "n": {"k": 1}}
    before = copy.deepcopy((base, above))
    merged = deep_merge(base, above)
    assert merged == {
        "a": {"x": 1, "y": {"z": 2, "w": 3}}, "split": {"LS": "both"}, "n": {"k": 1}, "keep": [1],
    }  # fmt: skip
    merged["a"]["y"]["z"] = merged["keep"][0] = merged["n"]["k"] = "changed"
    assert (base, above) == before


def test_a_part_of_eval_args_leaves_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "eval_args:\n  mode: {valid: full, test: full}\n")
    config = SessionConfig("SASRec", "toy", [path], {"eval_args": {"group_by": "user"}}, ["--eval_args.order=TO"])
    assert config["eval_args"] == {
        "split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user",
        "mode": {"valid": "full", "test": "full"},
    }  # fmt: skip


def test_files_merge_within_mappings(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "loss_type: BPR\ntrain_neg_sample_args: {sample_num: 3, alpha: 0.5}\n")
    second = write(tmp_path / "b.yaml", "train_neg_sample_args: {alpha: 0.7}\n")
    config = SessionConfig("SASRec", "toy", [first, second])
    assert config["train_neg_sample_args"]["sample_num"] == 3
    assert config["train_neg_sample_args"]["alpha"] == 0.7


def test_recboles_random_split_leaves_nothing_behind() -> None:
    """Pop is a general model, for which RecBole's default is RS."""
    assert SessionConfig("Pop", "toy")["eval_args"]["split"] == {"LS": "valid_and_test"}


def test_a_part_of_train_neg_sample_args_leaves_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "loss_type: BPR\ntrain_neg_sample_args: {sample_num: 3}\n")
    config = SessionConfig("SASRec", "toy", [path], command_line=["--train_neg_sample_args.alpha=0.5"])
    assert config["train_neg_sample_args"] == {
        "distribution": "uniform", "sample_num": 3, "alpha": 0.5, "dynamic": False, "candidate_num": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "keys", "distribution"),
    [
        ("SessionBERT4Rec", {}, "none"),
        ("SASRec", {}, "none"),
        ("SASRec", {"loss_type": "BPR"}, "uniform"),
        ("FPMC", {}, "uniform"),
    ],
)
def test_negatives_are_drawn_for_models_that_learn_from_them(
    model: str, keys: dict[str, Any], distribution: str
) -> None:
    assert SessionConfig(model, "toy", config_dict=keys)["train_neg_sample_args"]["distribution"] == distribution


# ---- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("1e-3", 0.001),
        ("1E5", 100_000.0),
        ("-2.5e+2", -250.0),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("None", None),
        ("~", None),
        ("null", None),
        ("", None),
        ("True", True),
        ("false", False),
        ("[ST, SSE]", ["ST", "SSE"]),
        ("[1e-3, None, [2]]", [0.001, None, [2]]),
        ("[&a {x: 1}, {<<: *a, y: 2}]", [{"x": 1}, {"x": 1, "y": 2}]),
        ("{LS: valid_and_test}", {"LS": "valid_and_test"}),
        ("'1e-3'", "1e-3"),
        ('"None"', "None"),
        ("'True'", "True"),
        ("Nonesuch", "Nonesuch"),
        ("None.yaml", "None.yaml"),
        ("1e", "1e"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("a=b", "a=b"),
        (CODE, CODE),
    ],
)
def test_values_are_yaml(text: str, value: object) -> None:
    for parsed in (parse_yaml(text, "here"), parse_command_line([f"--seed={text}"])["seed"]):
        assert parsed == value
        assert type(parsed) is type(value)


def test_text_is_never_evaluated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", f"checkpoint_dir: {CODE}\n")
    assert SessionConfig("SASRec", "toy", [path])["checkpoint_dir"] == CODE
    assert SessionConfig("SASRec", "toy", config_dict={"checkpoint_dir": CODE})["checkpoint_dir"] == CODE
    assert SessionConfig("SASRec", "toy", command_line=[f"--checkpoint_dir={CODE}"])["checkpoint_dir"] == CODE
    assert SessionConfig("SASRec", "toy", config_dict={"checkpoint_dir": "1+1"})["checkpoint_dir"] == "1+1"
    assert "key 'z' is unknown" in refusal("SASRec", "toy", command_line=[f"--z={CODE}"])
    assert f"seed is {CODE!r}; allowed" in refusal("SASRec", "toy", command_line=[f"--seed={CODE}"])
    tagged = write(tmp_path / "b.yaml", "epochs: 1\nseed: !!python/object/apply:os.getpid []\n")
    assert f"{tagged}, line 2: not valid YAML" in refusal("SASRec", "toy", [tagged])


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["--epochs=5"], {"epochs": 5}),
        (["--a.b.c=1", "--a.b.d=2", "--a.e=3"], {"a": {"b": {"c": 1, "d": 2}, "e": 3}}),
        (["--a={b: 1}", "--a.c=2"], {"a": {"b": 1, "c": 2}}),
        (["--valid_metric=NDCG@10"], {"valid_metric": "NDCG@10"}),
        (["--config_files=a.yaml b: c.yaml"], {"config_files": "a.yaml b: c.yaml"}),
        (["--x="], {"x": None}),
        ([], {}),
    ],
)
def test_command_line(arguments: list[str], values: dict[str, Any]) -> None:
    assert parse_command_line(arguments) == values
    assert parse_command_line([part for argument in arguments for part in argument.split("=", 1)]) == values


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--use_gpu"], "argument '--use_gpu' has no value; write --key=value, e.g. --use_gpu=True"),
        (["--use_gpu", "--epochs=5"], "argument '--use_gpu' has no value; write --key=value, e.g. --use_gpu=True"),
        (["--epochs", "5", "6"], "argument '6' is not understood; write --key=value, e.g. --epochs=20"),
        (["--epochs", "5", "--epochs=6"], "--epochs is given twice"),
        (["--a.b.c.d.e.f=1"], "argument '--a.b.c.d.e.f=1' is not understood"),
        (["--epochs 5"], "argument '--epochs 5' is not understood"),
        (["epochs=5"], "argument 'epochs=5' is not understood"),
        (["-epochs=5"], "argument '-epochs=5' is not understood"),
        (["--=5"], "argument '--=5' is not understood"),
        (["5"], "argument '5' is not understood"),
        (["--epochs=5", "--seed=1", "--epochs=6"], "--epochs is given twice; give it once"),
        (["--epochs=5", "--epochs=5"], "--epochs is given twice"),
        (["--eval_args.order=TO", "--eval_args.order=TO"], "--eval_args.order is given twice"),
        (["--eval_args={order: TO}", "--eval_args.order=TO"], "--eval_args.order is given twice"),
        (["--eval_args.order=TO", "--eval_args=~"], "--eval_args is given twice"),
        (["--config_files=a.yaml", "--config_files=b.yaml"], "--config_files is given twice"),
        (["--topk=[1, 2"], "--topk, line 1: not valid YAML"),
        (["--config_files=gone.yaml"], "config file gone.yaml cannot be read: No such file"),
    ],
)
def test_command_line_is_refused(arguments: list[str], words: str) -> None:
    assert words in refusal("SASRec", "toy", command_line=arguments)


# ---- files


@pytest.mark.parametrize("text", ["", "# only a remark\n", "---\n", "~\n"])
def test_an_empty_file_holds_no_keys(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "empty.yaml", text)
    assert read_yaml_file(path) == {}
    assert SessionConfig("SASRec", "toy", [path]).resolved == SessionConfig("SASRec", "toy").resolved


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: 1\nseed: [1, 2\nlearner: adam\n", ", line 3: not valid YAML ("),
        ("epochs: 1\n\tseed: 2\n", ", line 2: not valid YAML ("),
        ("epochs: 'a\n", "not valid YAML ("),
        ("a: 1\n---\nb: 2\n", "not valid YAML ("),
        ("- epochs\n- seed\n", " must hold 'key: value' lines"),
        ("epochs\n", " must hold 'key: value' lines"),
        ("epochs=5\n", " must hold 'key: value' lines"),
        ("5: 1\n", "key 5 is unknown"),
        ("epoch: 5\n", "key 'epoch' is unknown; did you mean 'epochs'?"),
        ('wandb_project: "\\uD800"\n', r"holds '\ud800', which is not text"),
        ('{"\\uD800": 1}\n', r"holds '\ud800', which is not text"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path / "broken.yaml", text)
    sentence = refusal("SASRec", "toy", [path])
    assert words in sentence
    assert str(path) in sentence or "unknown" in words


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "gone.yaml"
    assert refusal("SASRec", "toy", [missing]) == f"config file {missing} cannot be read: No such file or directory"
    assert f"config file {tmp_path} cannot be read: " in refusal("SASRec", "toy", [tmp_path])
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"epochs: \xff\xfe")
    assert refusal("SASRec", "toy", [binary]) == f"config file {binary} cannot be read: not UTF-8 text"


# ---- refusals


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temporal_dim": -1}, "temporal_dim is -1; allowed: a whole number from 1 to 16,384"),
        ({"session_features": ["STT"]}, "session_features is ['STT']; allowed: a list out of [ST, SSE, TSA, GAP]"),
        (
            {"session_features": ["ST", "ST"]},
            "session_features is ['ST', 'ST']; allowed: a list out of [ST, SSE",
        ),
        ({"session_features": "ST"}, "session_features is 'ST'; allowed: a list"),
        (
            {"hidden_size": 10, "n_heads": 4},
            "hidden_size is 10 and n_heads 4; allowed: a hidden_size that n_heads",
        ),
        ({"n_heads": 3}, "hidden_size is 64 and n_heads 3; allowed"),
        ({"session_feature": []}, "key 'session_feature' is unknown; did you mean 'session_features'?"),
        ({"Epochs": 5}, "key 'Epochs' is unknown; did you mean 'epochs'?"),
        ({"learning_rte": 1}, "key 'learning_rte' is unknown; did you mean 'learning_rate'?"),
        ({"qqq": 5}, "key 'qqq' is unknown"),
        ({"MODEL_TYPE": 5}, "key 'MODEL_TYPE' is unknown"),
        ({"eval_args.order": "TO"}, "key 'eval_args.order' is unknown"),
        ({"eval_args": {"splitt": 1}}, "key 'eval_args.splitt' is unknown; did you mean 'split'?"),
        (
            {"train_neg_sample_args": {"sample_nun": 1}},
            "key 'train_neg_sample_args.sample_nun' is unknown; did you",
        ),
        (
            {"clip_grad_norm": {"max_nrm": 1}},
            "key 'clip_grad_norm.max_nrm' is unknown; did you mean 'max_norm'?",
        ),
        (
            {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}},
            "eval_args.split is {'RS': [0.8, 0.1, 0.1]}; allowed: {L",
        ),
        ({"eval_args": {"order": "RO"}}, "eval_args.order is 'RO'; allowed: one of TO"),
        ({"eval_args": {"mode": "uni100"}}, "eval_args.mode is 'uni100'; allowed: full"),
        ({"eval_args": {"mode": {"vald": "full"}}}, "eval_args.mode is {'vald': 'full'}; allowed: full"),
        ({"eval_args": "full"}, "eval_args is 'full'; allowed: a mapping"),
        (
            {"valid_metric": "NDCG@5"},
            "valid_metric is 'NDCG@5'; allowed, by metrics and topk: recall@10, ndcg@10",
        ),
        (
            {"valid_metric": "MRR@10"},
            "valid_metric is 'MRR@10'; allowed, by metrics and topk: recall@10, ndcg@10",
        ),
        ({"topk": 5}, "valid_metric is 'NDCG@10'; allowed, by metrics and topk: recall@5, ndcg@5"),
        ({"metrics": ["NDGC"]}, "metrics is ['NDGC']; allowed: "),
        ({"metrics": "NDGC"}, "metrics is 'NDGC'; allowed: "),
        ({"metrics": ["AUC"]}, "metrics is ['AUC']; allowed: "),
        ({"learner": "adma"}, "learner is 'adma'; allowed: one of adam, adamw, sgd"),
        (
            {"valid_candidates": "pop"},
            "valid_candidates is 'pop'; allowed: one of eval_candidates, random, popular",
        ),
        ({"repeatable": False}, "repeatable is False; allowed: True"),
        ({"save_dataset": True}, "save_dataset is True; allowed: ~ or False (nothing is cached"),
        ({"save_dataloaders": True}, "save_dataloaders is True; allowed: ~ or False"),
        ({"dataset_save_path": "a.pth"}, "dataset_save_path is 'a.pth'; allowed: ~ or False"),
        ({"dataloaders_save_path": "a.pth"}, "dataloaders_save_path is 'a.pth'; allowed: ~ or False"),
        ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename is ['a', 'b', 'c']; allowed: ~"),
        ({"shuffle": "maybe"}, "shuffle is 'maybe'; allowed: True or False"),
    ],
)
def test_a_mistake_is_one_sentence_with_key_value_and_what_is_allowed(
    given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    assert words in refusal("SessionBERT4Rec", "toy", config_dict=given)
    path = write(tmp_path / "a.yaml", yaml.safe_dump(given))
    assert words in refusal("SessionBERT4Rec", "toy", [path])
    if not any("." in key for key in given):  # which the command line takes apart
        line = [f"--{key}={json.dumps(value)}" for key, value in given.items()]  # JSON is YAML
        assert words in refusal("SessionBERT4Rec", "toy", command_line=line)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"eval_args": None}, "eval_args"),
        ({"data_path": None}, "data_path"),
        ({"data_path": 5}, "data_path"),
        ({5: 1}, "5"),
        ({"loss_type": "BRP"}, "loss_type"),
        # The default loss of SASRec has no negatives.
        ({"train_neg_sample_args": {"sample_num": 2}}, "train_neg_sample_args"),
        ({"loss_type": "BPR", "train_neg_sample_args": {"distribution": "unifrom"}}, "unifrom"),
        ({"loss_type": "BPR", "train_neg_sample_args": {"sample_num": "many"}}, "many"),
        ({"seed": 2**32}, "seed"),  # one more than numpy's seeds
    ],
)
def test_what_recbole_stumbles_over_is_one_sentence_too(given: dict[Any, Any], word: str) -> None:
    assert word in refusal("SASRec", "toy", config_dict=given)


def test_negatives_for_a_model_that_draws_none_are_refused() -> None:
    given = {"train_neg_sample_args": {"sample_num": 2}}
    assert "train_neg_sample_args" in refusal("SessionBERT4Rec", "toy", config_dict=given)


@pytest.mark.parametrize(
    ("model", "dataset", "words"),
    [
        ("sasrec", "toy", "model 'sasrec' is unknown; did you mean 'SASRec'?"),
        ("SessionBert4Rec", "toy", "model 'SessionBert4Rec' is unknown; did you mean 'SessionBERT4Rec'?"),
        ("S3Rec", "toy", "model 'S3Rec' of RecBole is not supported: it needs pretraining on item attributes"),
        ("dien", "toy", "model 'DIEN' of RecBole is not supported: it predicts a label for each interaction"),
        ("lightGCN", "toy", "model 'LightGCN' of RecBole is not supported: it ignores the order of interactions"),
        (
            "qqqqqq",
            "toy",
            "model 'qqqqqq' is unknown; allowed: Pop, SessionBERT4Rec, SessionSASRec, VSKNN, VSTAN, BERT4Rec, ",
        ),
        (dict, "toy", "model is <class 'dict'>; allowed: a name, or a subclass of RecBole's SequentialRecommender"),
        (None, "toy", "no model is named; give --model=NAME"),
        ("SASRec", None, "no dataset is named; give --dataset=NAME"),
        ("SASRec", "a/b", "dataset is 'a/b'; allowed: the name of a folder in data_path"),
        ("SASRec", "data/", "dataset is 'data/'; allowed"),
        ("SASRec", 5, "dataset is 5; allowed"),
    ],
)
def test_model_and_dataset_are_refused(model: str | None, dataset: Any, words: str) -> None:
    assert words in refusal(model, dataset)


@pytest.mark.parametrize("argument", ["--model=[SASRec]", "--model={a: b}", "--model=5", "--config_files.a=b"])
def test_a_key_that_takes_a_name_refuses_a_structure(argument: str) -> None:
    assert argument[2:7] in refusal(None, "toy", command_line=[argument])


@pytest.mark.parametrize(
    ("model", "key", "value", "unused"),
    [
        ("SASRec", "session_features", ["ST"], ["session_features"]),
        ("Pop", "n_layers", 3, ["n_layers"]),
        ("SASRec", "n_layers", 3, []),
        ("SessionBERT4Rec", "session_features", ["ST"], []),
    ],
)
def test_a_key_of_another_model_is_named_and_left_out(model: str, key: str, value: object, unused: list[str]) -> None:
    config = SessionConfig(model, "toy", config_dict={key: value, "epochs": 2})
    assert config.unused_keys == unused
    assert (config[key], config.resolved.get(key)) == ((None, None) if unused else (value, value))


def test_a_key_of_another_model_is_checked_too() -> None:
    assert "session_features is ['STT']; allowed" in refusal("SASRec", "toy", config_dict={"session_features": ["STT"]})


def test_tail_ratio_of_recboles_tail_percentage_is_a_known_key() -> None:
    config = SessionConfig(
        "SASRec", "toy", config_dict={"metrics": ["NDCG", "TailPercentage"], "tail_ratio": 0.2}
    )  # fmt: skip
    assert config["tail_ratio"] == 0.2


# ---- nothing is changed behind the caller's back


def test_the_callers_dict_stays_as_it_is() -> None:
    given = {
        "loss_type": "BPR",
        "train_neg_sample_args": {"sample_num": 2},
        "eval_args": {"mode": "full"},
        "topk": [10],
    }
    before = copy.deepcopy(given)
    config = SessionConfig("SASRec", "toy", config_dict=given, command_line=["--train_neg_sample_args.alpha=0.3"])
    config["topk"].append(99)
    config["eval_args"]["mode"]["test"] = "changed"
    assert given == before


def test_the_environment_changes_only_for_a_gpu_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    SessionConfig("SASRec", "toy", config_dict={"use_gpu": False})
    assert dict(os.environ) == before
    monkeypatch.delenv(GPU)
    SessionConfig("SASRec", "toy")
    assert GPU not in os.environ
    SessionConfig("SASRec", "toy", command_line=["--gpu_id=3"])
    assert os.environ[GPU] == "3"


@pytest.mark.parametrize(("given", "device"), [({}, "cuda"), ({"use_gpu": False}, "cpu"), ({"gpu_id": ""}, "cpu")])
def test_a_gpu_is_used_where_there_is_one_and_it_is_wanted(
    given: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert SessionConfig("SASRec", "toy", config_dict=given)["device"].type == device
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert SessionConfig("SASRec", "toy", config_dict=given)["device"].type == "cpu"


def test_the_programs_own_arguments_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=7", "--nonsense", "--model=GRU4Rec"])
    config = SessionConfig("SASRec", "toy")
    assert (config["epochs"], config["model"]) == (300, "SASRec")


def test_recboles_list_of_arguments_does_not_grow() -> None:
    SessionConfig("SASRec", "ml-100k")
    assert "kg_reverse_r" not in dataset_arguments  # a key of RecBole's ml-100k.yaml


# ---- models and the round trip


def test_models_are_sequential_ones_that_need_no_more_than_interactions() -> None:
    models = available_models()
    assert [*models][:5] == ["Pop", "SessionBERT4Rec", "SessionSASRec", "VSKNN", "VSTAN"]
    assert {"SASRec", "BERT4Rec", "GRU4Rec", "NARM", "Caser", "STAMP", "FPMC", "LightSANs", "CORE"} <= set(models)
    assert not {"DIN", "DIEN", "FDSA", "GRU4RecF", "GRU4RecKG", "KSR", "S3Rec", "SASRecF", "BPR"} & set(models)
    assert all(kind.__name__ == name for name, kind in models.items())
    assert models["SessionBERT4Rec"].__module__.startswith("recbole_session.")
    assert models["Pop"].__module__.startswith("recbole_session.")


def test_a_new_model_is_a_python_file_and_a_yaml_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import recbole_session.model as package
    from recbole_session.config import models

    source = "from recbole.model.sequential_recommender import SASRec\n\n\nclass Mine(SASRec):\n    pass\n"
    folder, properties = tmp_path / "model", tmp_path / "properties"
    (properties / "model").mkdir(parents=True)
    folder.mkdir()
    write(folder / "brand_new_model.py", source)
    monkeypatch.setattr(package, "__path__", [str(folder)])
    monkeypatch.setattr(models, "PROPERTIES", properties)
    assert "Mine" not in available_models()
    write(properties / "model" / "Mine.yaml", "epochs: 7\n")
    assert "Mine" in available_models()


def test_a_class_of_ones_own_has_the_defaults_of_its_parents() -> None:
    ours, theirs = (type("Mine", (find_model(name),), {}) for name in ("SessionSASRec", "SASRec"))
    for kind, parent in ((ours, "SessionSASRec"), (theirs, "SASRec")):
        config, expected = SessionConfig(kind, "toy"), SessionConfig(parent, "toy").resolved
        assert config["model_class"] is kind
        assert config.resolved == {**expected, "model": "Mine"}


def assert_round_trip(config: SessionConfig, path: Path) -> None:
    again = SessionConfig(config_file_list=[write(path, config.dump())])
    assert again.resolved == config.resolved
    assert again.final_config_dict == config.final_config_dict
    assert again.dump() == config.dump()


@pytest.mark.parametrize("model", sorted(available_models()))
def test_a_dump_gives_the_same_configuration_back(model: str, tmp_path: Path) -> None:
    given = {"learning_rate": 1e-07, "topk": 10, "metrics": "NDCG", "val_interval": {"timestamp": "[0,inf)"}}
    config = SessionConfig(model, "toy", config_dict=given, command_line=["--user_inter_num_interval='[2,inf)'"])
    assert config.resolved["learning_rate"] == 1e-07
    assert config.resolved["user_inter_num_interval"] == "[2,inf)"
    assert (config.resolved["model"], config.resolved["dataset"]) == (model, "toy")
    assert_round_trip(config, tmp_path / "config.yaml")


@pytest.mark.parametrize("text", ["plain", "1e-3", "1.5", "None", "~", "yes", "a: b", "# no", "Zoë", " blank ", ""])
def test_a_text_stays_a_text_through_a_dump(text: str, tmp_path: Path) -> None:
    config = SessionConfig("SASRec", "toy", config_dict={"checkpoint_dir": text})
    assert config["checkpoint_dir"] == text
    assert_round_trip(config, tmp_path / "config.yaml")


def test_a_path_in_the_callers_dict_can_be_dumped(tmp_path: Path) -> None:
    config = SessionConfig("SASRec", "toy", config_dict={"data_path": tmp_path, "checkpoint_dir": tmp_path / "runs"})
    assert config["data_path"] == str(tmp_path / "toy")
    assert yaml.safe_load(config.dump())["data_path"] == str(tmp_path)


def test_resolved_is_what_the_user_sets_and_not_what_recbole_makes_of_it() -> None:
    config = SessionConfig("SASRec", "toy", command_line=["--seed=5", "--data_path=here"])
    assert config.resolved["seed"] == 5
    assert config.resolved["data_path"] == "here"
    assert config.resolved["train_neg_sample_args"] is None
    assert not {"MODEL_TYPE", "device", "model_class", "MODEL_INPUT_TYPE"} & set(config.resolved)
