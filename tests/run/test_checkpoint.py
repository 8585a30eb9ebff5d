"""What a checkpoint holds, what is refused, and what happens when it cannot be written."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_session.errors import InputError
from recbole_session.run.checkpoint import FORMAT, cpu_copy, read_checkpoint, write_checkpoint
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.training import run_session
from tests.conftest import WriteDataset, random_rows
from tests.processes import keys_of, only_run, outcome


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture(autouse=True)
def toy(write_dataset: WriteDataset, one_thread: None) -> None:
    write_dataset(random_rows())


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a SASRec run that broke after two epochs."""
    train = SessionTrainer._train_epoch

    def broken(self: SessionTrainer, train_data: object, epoch: int, *args: object, **kwargs: object) -> object:
        result = train(self, train_data, epoch, *args, **kwargs)
        if epoch == 2:
            raise RuntimeError("broken")
        return result

    with monkeypatch.context() as context:
        context.setattr(SessionTrainer, "_train_epoch", broken)
        with pytest.raises(RuntimeError, match="broken"):
            run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", eval_step=1))
    return only_run(tmp_path)


def test_checkpoints_hold_what_the_next_epoch_depends_on(stopped: Path) -> None:
    last = torch.load(stopped / "last.pth", weights_only=True)
    assert set(last["random"]) == {"torch", "device", "numpy", "python", "loader"}
    assert {"optimizer", "cur_step", "best_valid_score", "best_valid_result", "best", "config"} <= set(last)
    assert last["epochs_run"] == 2
    best = torch.load(stopped / "best.pth", weights_only=True)
    assert best["epoch"] == last["best_epoch"]
    assert best["config"]["model"] == "SASRec"
    assert all(torch.equal(best["state_dict"][name], last["best"]["state_dict"][name]) for name in best["state_dict"])


def test_cpu_copy_is_independent_and_refuses_objects() -> None:
    weights = torch.zeros(2)
    copy = cpu_copy({"a": [weights, (1, "x", None)], "b": np.float64(0.5), "c": np.arange(2)})
    weights += 1
    assert copy["a"][0].tolist() == [0, 0]
    assert copy["a"][1] == (1, "x", None)
    assert type(copy["b"]) is float
    assert copy["c"].tolist() == [0, 1]
    with pytest.raises(TypeError, match="not a PosixPath"):
        cpu_copy({"path": Path("x")})


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def flip_a_weight(path: Path) -> None:
    """Change a byte in the middle of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 0xFF
    path.write_bytes(content)


def change(path: Path, **values: object) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({**state, **values}, path)


def other_shape(path: Path) -> None:
    weights = torch.load(path, weights_only=True)["state_dict"]
    name = next(iter(weights))
    change(path, state_dict={**weights, name: torch.zeros(3, 4)})


def one_weight_less(path: Path) -> None:
    weights = torch.load(path, weights_only=True)["state_dict"]
    change(path, state_dict=dict(list(weights.items())[1:]))


CASES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "empty": (lambda path, marker: cut(path, 0), "is not a whole"),
    "one byte": (lambda path, marker: os.truncate(path, 1), "is not a whole"),
    "a tenth": (lambda path, marker: cut(path, 0.1), "is not a whole"),
    "half": (lambda path, marker: cut(path, 0.5), "is not a whole"),
    "all but the last byte": (
        lambda path, marker: os.truncate(path, path.stat().st_size - 1),
        "is not a whole",
    ),
    "a flipped byte": (lambda path, marker: flip_a_weight(path), "is damaged: .* has a wrong checksum"),
    "a text": (lambda path, marker: path.write_text("hello"), "its first bytes are b'he'"),
    "a folder": (lambda path, marker: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
    "a zip of something else": (lambda path, marker: zip_of_text(path), "is damaged"),
    "a bare pickle": (lambda path, marker: path.write_bytes(pickle.dumps(Bomb(marker))), "nothing of it was loaded"),
    "an old pickle": (
        lambda path, marker: path.write_bytes(pickle.dumps(Bomb(marker), 0)),
        "is not a whole",
    ),
    "a pickle in torch's old format": (
        lambda path, marker: torch.save({"x": Bomb(marker)}, path, _use_new_zipfile_serialization=False),
        "nothing of it was loaded",
    ),
    "a pickle in torch's format": (lambda path, marker: torch.save({"x": Bomb(marker)}, path), "pickle payload"),
    "a pickle beside good content": (lambda path, marker: change(path, extra=Bomb(marker)), "pickle payload"),
    "a whole model": (lambda path, marker: torch.save(torch.nn.Linear(1, 1), path), "pickle payload"),
    "tensors alone": (
        lambda path, marker: torch.save({"x": torch.zeros(1)}, path),
        "is not a 'recbole-session checkpoint 1'",
    ),
    "another format": (lambda path, marker: change(path, format="2"), "is not a 'recbole-session checkpoint 1'"),
    "another model": (lambda path, marker: change(path, model="GRU4Rec"), "from another architecture: it holds a GRU4"),
    "another shape": (lambda path, marker: other_shape(path), r"another architecture: .* is \[3, 4\] there"),
    "a weight less": (lambda path, marker: one_weight_less(path), r"another architecture: .* is missing there"),
    "no weights": (lambda path, marker: change(path, state_dict=None), "is damaged: state_dict is None"),
    "another dataset": (lambda path, marker: change(path, dataset="ml-1m"), "from another dataset: 'ml-1m'"),
    "changed data": (lambda path, marker: change(path, dataset_checksum="0" * 64), "has changed since"),
    "other keys": (
        lambda path, marker: change(path, config={**torch.load(path, weights_only=True)["config"], "seed": 3}),
        "seed is 2020, but the run to be resumed has 3",
    ),
}


def zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


@pytest.mark.parametrize("case", CASES)
def test_a_bad_checkpoint_is_refused_and_runs_no_code(case: str, stopped: Path, tmp_path: Path) -> None:
    spoil, words = CASES[case]
    marker = tmp_path / "code was run"
    path = stopped / "last.pth"
    spoil(path, marker)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=words) as caught:
        run_session(resume=stopped)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    assert before is None or path.read_bytes() == before
    assert not (stopped / "result.json").exists()


def test_the_bomb_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "boom")))
    assert (tmp_path / "boom").exists()


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.pth cannot be read: No such file"):
        read_checkpoint(tmp_path / "no.pth")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    path = tmp_path / "last.pth"
    write_checkpoint(path, {"x": torch.zeros(10)})
    full_disk(20_000)
    with pytest.raises(InputError, match=r"last\.pth cannot be written: .*resume with --resume="):
        write_checkpoint(path, {"x": torch.ones(100_000)})
    assert torch.load(path, weights_only=True)["x"].tolist() == [0] * 10
    assert [file.name for file in tmp_path.glob("*last*")] == ["last.pth"]
    assert not list(tmp_path.glob(".*"))


def test_a_run_on_a_full_disk_stops_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = keys_of(tmp_path, "SASRec") | {"checkpoint_dir": str(tmp_path / "whole" / "saved")}
    run_session("SASRec", "toy", config_dict=whole)
    from recbole_session.run import checkpoint

    saves = []

    def save(state: dict[str, object], path: Path) -> None:
        saves.append(path)
        if len(saves) == 5:
            raise OSError(28, "No space left on device")
        torch_save(state, path)

    torch_save = torch.save
    with monkeypatch.context() as context:
        context.setattr(checkpoint.torch, "save", save)
        with pytest.raises(InputError, match="cannot be written: No space left on device") as caught:
            run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))
    folder = only_run(tmp_path)
    assert f"--resume={folder}" in str(caught.value)
    assert torch.load(folder / "last.pth", weights_only=True)["format"] == FORMAT
    run_session(resume=folder)
    assert outcome(folder) == outcome(only_run(tmp_path / "whole"))


def test_folders_that_cannot_be_written_to(tmp_path: Path, stopped: Path) -> None:
    (tmp_path / "a file").write_text("")
    keys = keys_of(tmp_path, "SASRec") | {"checkpoint_dir": str(tmp_path / "a file")}
    with pytest.raises(InputError, match="checkpoint_dir"):
        run_session("SASRec", "toy", config_dict=keys)
    (stopped / "run.log").unlink()
    (stopped / "run.log").mkdir()
    with pytest.raises(InputError, match="cannot be written to: Is a directory"):
        run_session(resume=stopped)


def spoil_step(monkeypatch: pytest.MonkeyPatch, number: int, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    from recbole.model.sequential_recommender import SASRec

    calculate = SASRec.calculate_loss
    steps = []

    def spoiled(self: torch.nn.Module, batch: object) -> torch.Tensor:
        steps.append(batch)
        loss = calculate(self, batch)
        return spoil(loss) if len(steps) == number else loss

    monkeypatch.setattr(SASRec, "calculate_loss", spoiled)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_steps = -(-sum(max(length, 0) for length in training_targets(tmp_path)) // 16)
    spoil_step(monkeypatch, 2 * n_steps + 3, lambda loss: loss * factor)
    with pytest.raises(InputError, match=r"loss is not finite after step 3 of epoch 3.*lower learning_rate") as caught:
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", eval_step=1))
    folder = only_run(tmp_path)
    assert str(folder / "best.pth") in str(caught.value)
    last = read_checkpoint(folder / "last.pth")
    assert last["epochs_run"] == 2
    assert all(weights.isfinite().all() for weights in last["state_dict"].values())


@pytest.mark.parametrize(
    ("scaler", "advice"), [(False, "or set clip_grad_norm"), (True, "or use amp_dtype=bfloat16 without enable_scaler")]
)
def test_the_advice_is_one_that_the_keys_allow(
    scaler: bool, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_step(monkeypatch, 1, lambda loss: loss * float("nan"))
    with pytest.raises(InputError, match=advice):
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", enable_scaler=scaler))


def training_targets(tmp_path: Path) -> list[int]:
    """Number of training targets of every user, from the file: all but the first, validation and test rows."""
    lines = (tmp_path / "data" / "toy" / "toy.inter").read_text().splitlines()[1:]
    users = [line.split("\t")[0] for line in lines]
    return [users.count(user) - 3 for user in set(users)]


def test_weights_that_are_no_numbers_are_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of an epoch spoils the weights; no later loss would tell."""
    n_steps = -(-sum(training_targets(tmp_path)) // 16)
    train = torch.optim.Adam.step
    steps = []

    def step(self: torch.optim.Adam, *args: object) -> object:
        steps.append(0)
        result = train(self, *args)
        if len(steps) == n_steps * 2:
            self.param_groups[0]["params"][0].data[0] = float("nan")
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.raises(InputError, match=r"weights are not finite after step .* of epoch 2"):
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec", eval_step=1))
    assert read_checkpoint(only_run(tmp_path) / "best.pth")["epoch"] == 0


def test_out_of_memory_names_the_keys_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.model.sequential_recommender import SASRec

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as context:
        context.setattr(SASRec, "calculate_loss", full)
        with pytest.raises(InputError, match=r"out of memory on cpu; lower train_batch_size \(16\) or MAX_ITEM"):
            run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))
    monkeypatch.setattr(SASRec, "full_sort_predict", full)
    with pytest.raises(InputError, match=r"lower eval_batch_size \(512\) and resume with --resume="):
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))


def test_a_real_allocation_that_is_too_large_is_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_step(monkeypatch, 1, lambda loss: torch.empty(1 << 50, dtype=torch.float64))
    with pytest.raises(InputError, match="out of memory on cpu"):
        run_session("SASRec", "toy", config_dict=keys_of(tmp_path, "SASRec"))
