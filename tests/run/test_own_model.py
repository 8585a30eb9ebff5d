"""A model of the user's own: a class passed to `run_session`, as in a notebook."""

from pathlib import Path

import pytest
import torch
from recbole.model.sequential_recommender import SASRec

import recbole_session
from recbole_session.errors import InputError
from recbole_session.model import SessionBERT4Rec
from recbole_session.run.audit import audit_run
from recbole_session.run.run import Run
from tests.conftest import WriteDataset, random_rows


class Ours(SessionBERT4Rec):
    """The plug-in's model."""


class OursAgain(Ours):
    """A class of the user's whose parent is one of the user's too."""


class RecBoles(SASRec):
    """RecBole's model, with scores that are easy to recognise."""

    def full_sort_predict(self, interaction: object) -> torch.Tensor:
        return torch.arange(self.n_items).float().repeat(len(interaction["user_id"]), 1)


@pytest.fixture
def keys(tmp_path: Path, write_dataset: WriteDataset) -> dict[str, object]:
    write_dataset(random_rows())
    places = {"data_path": str(tmp_path / "data"), "checkpoint_dir": str(tmp_path / "saved")}
    return {**places, "num_negatives": 10, "epochs": 1, "hidden_size": 8, "inner_size": 16}


@pytest.mark.parametrize("model", [Ours, OursAgain, RecBoles])
def test_a_class_trains_with_the_defaults_of_its_parent_and_is_read_back(
    model: type, keys: dict[str, object], tmp_path: Path
) -> None:
    folder = Path(recbole_session.run_session(model, "toy", config_dict=keys)["run_folder"])
    run = Run(folder, model_class=model)
    parent = recbole_session.run_session("SASRec" if model is RecBoles else "SessionBERT4Rec", "toy", config_dict=keys)
    assert {**run.config, "model": parent["model"]} == Run(parent["run_folder"]).config
    assert len(run.dataset().sequences.items) == len(random_rows())
    loaded = recbole_session.load(folder, model=model)
    assert type(loaded.model) is model
    items = loaded.recommend([("i1", 5)], k=3, exclude_seen=False).items
    if model is RecBoles:
        assert items == run.vocabulary.items[:-4:-1]
    audit_run(folder, model_class=model)
    with pytest.raises(InputError, match=rf"model '{model.__name__}' is neither this project's nor RecBole's"):
        recbole_session.load(folder)


def test_a_class_is_resumed(keys: dict[str, object], tmp_path: Path) -> None:
    folder = Path(recbole_session.run_session(Ours, "toy", config_dict=keys)["run_folder"])
    ranks = (folder / "ranks.csv").read_text()
    (folder / "result.json").unlink()
    assert recbole_session.run_session(Ours, resume=folder)["run_folder"] == str(folder)
    assert (folder / "ranks.csv").read_text() == ranks


def test_a_class_that_cannot_be_built_leaves_no_run_folder(keys: dict[str, object], tmp_path: Path) -> None:
    class Broken(SASRec):
        def __init__(self, config: object, dataset: object) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        recbole_session.run_session(Broken, "toy", config_dict=keys)
    assert not (tmp_path / "saved").exists()
