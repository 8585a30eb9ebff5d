import json
from pathlib import Path

import pytest
import torch

import recbole_session
from recbole_session.errors import InputError
from recbole_session.run.run import Run
from tests.conftest import TINY_MODEL, WriteDataset, random_rows


@pytest.fixture
def run(tmp_path: Path, write_dataset: WriteDataset) -> Run:
    write_dataset(random_rows())
    keys = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved"), "num_negatives": 10}
    result = recbole_session.run_session("SessionBERT4Rec", "toy", config_dict={**keys, **TINY_MODEL, "seed": 7})
    return recbole_session.Run(result["run_folder"])


def test_what_a_folder_holds(run: Run) -> None:
    assert run.is_finished
    assert run.seed == run.config["seed"] == 7
    assert run.name == run.folder.name
    assert Run(run.folder, "a row").name == "a row"
    ranks = run.ranks()
    assert run.result["test"]["all"]["recall@10"] == pytest.approx((ranks["rank_all"] <= 10).mean())
    dataset = run.dataset()
    assert [dataset.id2token("user_id", user) for user in range(1, dataset.user_num)] == run.vocabulary.users
    assert sorted(ranks["user_id"]) == sorted(run.vocabulary.users)
    model, config = run.model()
    assert config["device"] == torch.device("cpu")
    best = torch.load(run.folder / "best.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, best[name]) for name, tensor in model.state_dict().items())


def test_a_dataset_that_changed_is_refused_unless_it_may(run: Run, tmp_path: Path, write_dataset: WriteDataset) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="there is no"):
        run.dataset()
    assert len(run.dataset(tmp_path / "moved").sequences.items) == len(random_rows())
    write_dataset(random_rows(seed=1))
    with pytest.raises(InputError, match="dataset 'toy' has changed since this run"):
        run.dataset()
    assert len(run.dataset(may_differ=True).sequences.items) == len(random_rows(seed=1))


def test_ranks_that_disagree_with_the_result_are_refused(run: Run) -> None:
    path = run.folder / "ranks.csv"
    ranks = run.ranks()
    ranks["rank_all"] = 1
    ranks.to_csv(path, index=False)
    with pytest.raises(InputError, match=r"gives recall@10 = 1.000000 among all, and result.json beside it says 0"):
        run.ranks()
    path.unlink()
    assert not run.is_finished
    with pytest.raises(InputError, match=r"ranks.csv cannot be read: No such file"):
        run.ranks()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "7"}, "seed is '7'"),
        ({"seed": True}, "seed is True"),
        ({"num_parameters": 10**30}, "num_parameters is 1000000000000000000000000000000"),
        ({"dataset_checksum": None}, "dataset_checksum is None"),
        ({"test": {}}, "test holds no candidate set"),
        ({"test": {"all": {"ndcg@10": "high"}}}, "test.all.ndcg@10 is 'high'"),
        ({"test": {"all": {"ndcg@10": 0.5}, "random": {"ndcg@10": 0.5, "mrr@10": 0.5}}}, "test.all.mrr@10 is missing"),
        ({"test": []}, r"test is \[\]"),
    ],
)
def test_a_damaged_result_is_refused(change: dict[str, object], words: str, run: Run) -> None:
    path = run.folder / "result.json"
    path.write_text(json.dumps({**run.result, **change}), encoding="utf-8")
    with pytest.raises(InputError, match=rf"result\.json is damaged: {words}"):
        Run(run.folder).result  # noqa: B018


def test_a_result_that_is_missing_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no finished run: there is no result\.json"):
        Run(tmp_path).result  # noqa: B018
    for text in ("", "{", "[]", "3", "[" * 100_000, '{"model": "Pop"}'):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(InputError, match=r"result\.json is damaged"):
            Run(tmp_path).result  # noqa: B018
