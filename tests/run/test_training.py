import json
import logging
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from recbole_session.config.models import available_models
from recbole_session.errors import InputError
from recbole_session.model import SessionBERT4Rec
from recbole_session.run.training import run_session
from tests.conftest import TINY_MODEL, BuildConfig, WriteDataset, random_rows

SMALL = {"epochs": 1, "hidden_size": 8, "embedding_size": 8, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 8}


def run(tmp_path: Path, model: str = "SessionBERT4Rec", **keys: object) -> tuple[dict[str, object], Path]:
    values = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), "num_negatives": 10}
    values |= TINY_MODEL if model == "SessionBERT4Rec" else {}
    result = run_session(model, "toy", config_dict={**values, **keys})
    return result, Path(result["run_folder"])


@pytest.fixture
def toy(write_dataset: WriteDataset) -> None:
    write_dataset(random_rows())


@pytest.mark.usefixtures("toy")
def test_run_folder_holds_what_the_design_promises(tmp_path: Path) -> None:
    result, folder = run(tmp_path, epochs=3, eval_step=1, seed=7)
    files = {
        "config.yaml",
        "best.pth",
        "last.pth",
        "result.json",
        "ranks.csv",
        "run.log",
        "tensorboard",
        "vocabulary.json",
        ".lock",
    }
    assert {path.name for path in folder.iterdir()} == files
    written = json.loads((folder / "result.json").read_text())
    assert written == {key: value for key, value in result.items() if key != "run_folder"}
    assert written["session_features"] == ["ST", "SSE", "TSA"]
    assert written["seed"] == 7
    assert written["num_users"] == 12
    assert written["epochs_run"] == 3
    assert list(written["valid"]) == ["random"]
    assert list(written["test"]) == ["random", "popular", "all"]
    assert written["environment"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "ndcg@10" in (folder / "run.log").read_text()


def test_a_run_says_what_training_knows_nothing_of(write_dataset: WriteDataset, tmp_path: Path) -> None:
    write_dataset([*random_rows(), ("late", "new", 2**31 - 2), ("late", "newer", 2**31 - 1)])
    _, folder = run(tmp_path, "Pop", eval_args={"split": {"TS": [2**31 - 3, 2**31 - 2]}})
    log = (folder / "run.log").read_text()
    assert "users who begin after the training period: 1 (late); the first" in log
    assert "1 of 1 test targets are items of which training has no row" in log


def test_a_run_says_where_the_catalogue_has_too_few_negatives(write_dataset: WriteDataset, tmp_path: Path) -> None:
    """Six items: a has met three of them and b four, so three and two are left."""
    write_dataset([*(("a", item, time) for time, item in enumerate("pqr")), *(("b", item, 9) for item in "rstu")])
    keys = {"eval_candidates": ["popular", "all"], "valid_candidates": "all"}
    for number in (2, 3):
        _, folder = run(tmp_path, "Pop", num_negatives=number, **keys)
        words = "candidate set 'popular': 1 of 2 test targets have fewer than num_negatives = 3 negatives"
        assert (words in (folder / "run.log").read_text()) == (number == 3)


@pytest.mark.usefixtures("toy")
def test_metrics_can_be_recomputed_from_ranks(tmp_path: Path) -> None:
    result, folder = run(tmp_path)
    ranks = pd.read_csv(folder / "ranks.csv")
    assert list(ranks.columns[:4]) == ["user_id", "item_id", "rank_random", "candidates_random"]
    assert len(ranks) == result["num_users"]
    for name, metrics in result["test"].items():
        rank = ranks[f"rank_{name}"]
        assert rank.between(1, ranks[f"candidates_{name}"]).all()
        gains = [1 / math.log2(value + 1) if value <= 10 else 0.0 for value in rank]
        assert metrics["ndcg@10"] == pytest.approx(sum(gains) / len(gains))
        assert metrics["recall@10"] == pytest.approx((rank <= 10).mean())


@pytest.mark.usefixtures("toy")
def test_same_seed_same_numbers_other_seed_others(tmp_path: Path) -> None:
    first, second, other = (run(tmp_path, seed=seed)[0] for seed in (1, 1, 2))
    assert first["test"] == second["test"]
    assert first["valid"] == second["valid"]
    assert first["test"] != other["test"]


@pytest.mark.usefixtures("toy")
def test_half_precision_is_that_of_amp_dtype_and_close_to_single(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, dtypes = [], []
    calculate_loss = SessionBERT4Rec.calculate_loss

    def watched(self: SessionBERT4Rec, interaction: object) -> torch.Tensor:
        dtypes.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        losses.append(calculate_loss(self, interaction))
        return losses[-1]

    monkeypatch.setattr(SessionBERT4Rec, "calculate_loss", watched)
    before = torch.get_autocast_dtype("cpu")
    for keys in ({}, {"enable_amp": True}, {"enable_amp": True, "amp_dtype": "float16"}):
        run(tmp_path, hidden_size=64, initializer_range=0.3, train_batch_size=100, **keys)
    assert dtypes == [torch.float32, torch.bfloat16, torch.float16]
    single, brain, half = (float(loss.detach()) for loss in losses)
    assert single != brain == pytest.approx(single, rel=0.02)
    assert single != half == pytest.approx(single, rel=0.005)
    assert torch.get_autocast_dtype("cpu") == before


@pytest.mark.usefixtures("toy")
def test_results_do_not_depend_on_the_evaluation_batch_size(tmp_path: Path) -> None:
    results = [pd.read_csv(run(tmp_path, eval_batch_size=size)[1] / "ranks.csv") for size in (1, 5, 512)]
    assert results[0].equals(results[1])
    assert results[0].equals(results[2])


@pytest.mark.usefixtures("toy")
def test_saved_config_gives_the_same_run(tmp_path: Path) -> None:
    result, folder = run(tmp_path, session_features=["SSE"], learning_rate=0.01)
    again = run_session(config_file_list=[folder / "config.yaml"])
    assert again["test"] == result["test"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["session_features"] == ["SSE"]


@pytest.mark.usefixtures("toy")
def test_the_best_epoch_is_the_one_that_is_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoil the weights after the best epoch: the table must not notice."""
    from recbole_session.run.trainer import SessionTrainer

    scores = iter([0.1, 0.5, 0.2, 0.3])
    validate = SessionTrainer._valid_epoch

    def scripted(self: SessionTrainer, valid_data: object, show_progress: bool = False) -> object:
        return next(scores), validate(self, valid_data)[1]

    monkeypatch.setattr(SessionTrainer, "_valid_epoch", scripted)
    result, folder = run(tmp_path, epochs=4, eval_step=1)
    assert result["best_epoch"] == 1
    state = torch.load(folder / "best.pth", weights_only=True)
    assert state["epoch"] == 1
    scores = iter([0.1, 0.5])
    shorter, _ = run(tmp_path, epochs=2, eval_step=1)
    assert shorter["test"] == result["test"]


@pytest.mark.usefixtures("toy")
def test_time_limit_stops_before_the_next_epoch_and_keeps_the_last(tmp_path: Path) -> None:
    result, _ = run(tmp_path, epochs=50, eval_step=10, train_time_limit=1e-9)
    assert result["epochs_run"] == 1
    assert result["best_epoch"] == 0
    assert result["valid"]["random"]["ndcg@10"] >= 0


def test_users_too_short_for_validation_keep_the_last_epoch(tmp_path: Path, write_dataset: WriteDataset) -> None:
    write_dataset([(f"u{user}", f"i{(user + place) % 20}", place) for user in range(20) for place in range(3)])
    result, _ = run(tmp_path, epochs=2)
    assert result["best_epoch"] == 1
    assert result["valid"] == {"random": None}


def test_one_user_is_enough(tmp_path: Path, write_dataset: WriteDataset) -> None:
    write_dataset([("u", f"i{place}", place) for place in range(5)] + [("v", f"j{place}", 0) for place in range(12)])
    _, folder = run(tmp_path, user_inter_num_interval="[1,inf)")
    assert pd.read_csv(folder / "ranks.csv")["user_id"].tolist() == ["u", "v"]


@pytest.mark.usefixtures("toy")
def test_every_model_meets_the_same_negatives(tmp_path: Path) -> None:
    """Scores that depend on the item alone give every model the same ranks, if the candidates are the same."""
    ranks = []
    for model, keys in {
        "SessionBERT4Rec": {"train_batch_size": 3, "eval_batch_size": 4},
        "SASRec": {"train_batch_size": 50, "eval_batch_size": 7, **SMALL},
        "BERT4Rec": {"train_batch_size": 9, "eval_batch_size": 1, **SMALL},
        "GRU4Rec": {"train_batch_size": 9, **SMALL},
    }.items():
        patch = pytest.MonkeyPatch()
        with patch.context() as context:
            kind = available_models()[model]
            context.setattr(kind, "full_sort_predict", popularity_like_scores)
            if hasattr(kind, "score_factors"):
                context.setattr(kind, "score_factors", factors_of_popularity_like_scores)
            _, folder = run(tmp_path, model, seed=len(ranks), **keys)
        ranks.append(pd.read_csv(folder / "ranks.csv"))
    for other in ranks[1:]:
        assert ranks[0].equals(other)


def popularity_like_scores(self: torch.nn.Module, interaction: object) -> torch.Tensor:
    return (torch.arange(self.n_items).float() * 7 % 31).repeat(len(interaction["user_id"]), 1)


def factors_of_popularity_like_scores(self: torch.nn.Module, interaction: object) -> tuple[torch.Tensor, ...]:
    scores = popularity_like_scores(self, interaction)
    return torch.ones(len(scores), 1), scores[0].unsqueeze(1), torch.zeros(self.n_items)


def test_models_of_recbole_and_their_own_evaluation_agree(
    tmp_path: Path, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    """Ranks among all items give the metrics that RecBole's collector finds in the same scores."""
    from recbole.evaluator import Collector, Evaluator

    from recbole_session.config.session_config import SessionConfig
    from recbole_session.data.dataset import SessionDataset
    from recbole_session.data.loaders import build_loaders
    from recbole_session.evaluator.ranking_evaluator import RankingEvaluator

    write_dataset(random_rows(n_users=25, n_items=60, seed=5))
    keys = {"metrics": ["Recall", "MRR", "NDCG", "Hit", "Precision"], "topk": [1, 5, 10], "num_negatives": 10}
    for model in ("SASRec", "BERT4Rec", "GRU4Rec"):
        config: SessionConfig = build_config(model, **keys, **{k: v for k, v in SMALL.items() if k != "embedding_size"})
        dataset = SessionDataset(config)
        _, _, loader = build_loaders(config, dataset)
        torch.manual_seed(1)
        network = config["model_class"](config, dataset).eval()
        ours = RankingEvaluator(config, dataset).evaluate(network, loader, config["device"], ["all"]).metrics["all"]
        collector = Collector(config)
        for batch in loader:
            scores = network.full_sort_predict(batch)
            scores[:, 0] = float("-inf")
            collector.eval_batch_collect(scores, batch, torch.arange(len(batch)), batch["item_id"])
        theirs = Evaluator(config).evaluate(collector.get_data_struct())
        assert ours == pytest.approx({name: float(value) for name, value in theirs.items()}, abs=1e-4)


@pytest.mark.parametrize("model", sorted(available_models()))
def test_every_model_on_the_list_runs(model: str, tmp_path: Path, write_dataset: WriteDataset) -> None:
    write_dataset(random_rows(n_items=300, shortest=9))  # two models ask for a top 100 while they train
    keys = {"epochs": 1, "MAX_ITEM_LIST_LENGTH": 8, "train_batch_size": 32} if model != "SessionBERT4Rec" else {}
    result, _ = run(tmp_path, model, **keys)
    assert all(0 <= value <= 1 for metrics in result["test"].values() for value in metrics.values())


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"train_batch_size": 0}, "train_batch_size is 0"),
        ({"eval_candidates": ["random", "nowhere.csv"]}, "nowhere.csv"),
        ({"data_path": "nowhere"}, "recbole-session convert"),
        (
            {"model": "GRU4RecCPR", "n_facet": 3},
            r"^GRU4RecCPR cannot be built with these keys: AssertionError at '.*n_",
        ),
    ],
)
def test_a_mistake_leaves_no_run_folder(keys: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        run(tmp_path, **{"model": "SessionBERT4Rec", **keys})
    assert not (tmp_path / "saved").exists()


@pytest.mark.usefixtures("toy")
def test_logging_is_left_as_it_was(tmp_path: Path) -> None:
    before = (logging.getLogger().level, list(logging.getLogger().handlers))
    run(tmp_path)
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before
