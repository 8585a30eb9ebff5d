"""`refit: True`: the model for use has seen every row, and the figures are those of the model before it."""

from pathlib import Path

import pytest
import torch

import recbole_session
from recbole_session.run.audit import audit_run
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session
from tests.conftest import BuildConfig, WriteDataset, build_views, random_rows
from tests.processes import assert_same_weights, keys_of, only_run, outcome

ROWS = random_rows(n_users=20, n_items=60)
BY_SESSIONS = {"split": {"SS": "valid_and_test"}}
BY_TIME = {"split": {"TS": [0.6, 0.2, 0.2]}}
FEW_EPOCHS = {"epochs": 4, "eval_step": 2}


@pytest.fixture(autouse=True)
def toy(write_dataset: WriteDataset, one_thread: None) -> None:
    write_dataset(ROWS)


def trained(tmp_path: Path, name: str, model: str, **keys: object) -> Path:
    values = keys_of(tmp_path, model, **keys) | {"checkpoint_dir": str(tmp_path / name / "saved")}
    run_session(model, "toy", config_dict=values)
    return only_run(tmp_path / name)


def state_of(path: Path) -> dict[str, object]:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("eval_args", [{}, BY_SESSIONS, BY_TIME], ids=["LS", "SS", "TS"])
@pytest.mark.parametrize("model", ["SASRec", "SessionBERT4Rec"])
def test_every_row_is_trained_on(model: str, eval_args: dict[str, object], build_config: BuildConfig) -> None:
    """RecBole's models get a sample per row with a history, session-aware ones all rows of a user in one."""
    config = build_config(model, eval_args=eval_args, MAX_ITEM_LIST_LENGTH=50, train_batch_size=64)
    dataset = build_views(config)["train"]
    view = dataset.with_all_rows()
    history: dict[str, list[str]] = {}
    for user, item, _ in sorted(ROWS, key=lambda row: row[2]):
        history.setdefault(str(user), []).append(str(item))
    batch = view[list(range(len(view)))]
    users = dataset.id2token("user_id", batch["user_id"].numpy())
    if model == "SASRec":
        found = sorted(zip(users, dataset.id2token("item_id", batch["item_id"].numpy()), strict=True))
        assert found == sorted((user, item) for user, items in history.items() for item in items[1:])
    else:
        assert sorted(users) == sorted(history)
        for user, tokens in zip(users, batch["item_seq"].tolist(), strict=True):
            items = [token for token in tokens if 0 < token < dataset.item_num]
            assert dataset.id2token("item_id", items).tolist() == history[user]
    assert len(dataset.training_items()) < len(view.training_items()) == len(ROWS)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("SessionBERT4Rec", {"hidden_dropout_prob": 0.3, **FEW_EPOCHS}),
        ("SASRec", {"loss_type": "BPR", **FEW_EPOCHS}),
        ("BERT4Rec", {"mask_ratio": 0.5, **FEW_EPOCHS}),
        ("Pop", {}),
        ("VSKNN", {}),
    ],
)
def test_as_if_all_rows_were_for_training(
    model: str, keys: dict[str, object], tmp_path: Path, write_dataset: WriteDataset
) -> None:
    """To the bit: with two more rows of every user, leave one out trains on all rows that were there before."""
    if model in ("Pop", "VSKNN"):
        keys = {"epochs": 1}
    folder = trained(tmp_path, "refit", model, refit=True, **keys)
    n_epochs = recbole_session.Run(folder).result["refit_epochs"]
    latest = max(int(str(row[2])) for row in ROWS)
    write_dataset([*ROWS, *((f"u{user}", "i1", latest + 1 + more) for user in range(20) for more in (0, 1))])
    longer = trained(tmp_path, "longer", model, **{**keys, "epochs": n_epochs})
    ours, theirs = state_of(folder / "refit.pth"), state_of(longer / "last.pth")
    for part in ("state_dict", "other_parameter"):
        assert (ours[part] or {}).keys() == (theirs[part] or {}).keys()
        for name, value in (ours[part] or {}).items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[part][name])), name


@pytest.mark.parametrize("eval_args", [{}, BY_SESSIONS, BY_TIME], ids=["LS", "SS", "TS"])
def test_the_figures_stay_those_of_the_first_model(
    eval_args: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {**FEW_EPOCHS, "eval_args": eval_args, "train_time_limit": 1000}
    plain = trained(tmp_path, "plain", "SessionBERT4Rec", **keys)
    caplog.clear()
    caplog.set_level("INFO")
    folder = trained(tmp_path, "refit", "SessionBERT4Rec", refit=True, **keys)
    (result, ranks), (expected, expected_ranks) = outcome(folder), outcome(plain)
    n_epochs = result.pop("refit_epochs")
    assert (result, ranks) == (expected, expected_ranks)
    assert n_epochs == result["best_epoch"] + 1
    assert_same_weights(folder / "best.pth", plain / "best.pth")
    assert f"refit.pth, trained on all rows for {n_epochs} epochs, is for use and is not tested" in caplog.text
    assert not (plain / "refit.pth").exists()
    assert not (folder / "refit").exists()
    # What answers is the refit model; what is audited is the tested one.
    weights = recbole_session.load(folder).model.state_dict()
    refit = state_of(folder / "refit.pth")["state_dict"]
    assert all(torch.equal(weights[name], refit[name]) for name in weights)
    assert not all(
        torch.equal(weights[name], value) for name, value in state_of(plain / "best.pth")["state_dict"].items()
    )
    audit_run(folder)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_refit_that_was_stopped_goes_on_to_the_same_bits(
    epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"epochs": 4, "eval_step": 4, "refit": True, "hidden_dropout_prob": 0.3}
    whole = trained(tmp_path, "whole", "SessionBERT4Rec", **keys)
    check = SessionTrainer._check_nan

    def broken(self: SessionTrainer, loss: torch.Tensor) -> None:
        check(self, loss)
        if self.run_folder.name == "refit" and self.epochs_run == epoch:
            raise RuntimeError("broken")

    with monkeypatch.context() as context:
        context.setattr(SessionTrainer, "_check_nan", broken)
        with pytest.raises(RuntimeError, match="broken"):
            trained(tmp_path, "stopped", "SessionBERT4Rec", **keys)
    folder = only_run(tmp_path / "stopped")
    assert not (folder / "result.json").exists()
    assert not (folder / "refit.pth").exists()
    assert (folder / "refit" / "last.pth").exists() == (epoch > 0)
    torch.manual_seed(99)
    run_session(resume=folder)
    assert outcome(folder) == outcome(whole)
    assert_same_weights(folder / "refit.pth", whole / "refit.pth")
