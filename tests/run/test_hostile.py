"""Run folders from a stranger, damaged by hand; `tests/test_hostile.py` damages them at random."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import recbole_session
from recbole_session.errors import InputError
from recbole_session.run.audit import audit_run
from recbole_session.run.checkpoint import read_checkpoint
from recbole_session.run.training import run_session
from tests.conftest import TINY_MODEL, random_rows
from tests.hostile import change


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished and audited run; ``last.pth`` is there, too."""
    base = tmp_path_factory.mktemp("hostile")
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in random_rows())]
    (base / "data" / "toy").mkdir(parents=True)
    (base / "data" / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    places = {"data_path": str(base / "data"), "checkpoint_dir": str(base / "saved")}
    keys = {**TINY_MODEL, **places, "num_negatives": 10, "show_progress": False, "state": "ERROR"}
    folder = Path(run_session("SessionBERT4Rec", "toy", config_dict=keys)["run_folder"])
    audit_run(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("state_dict", {}, "do not fit together"),
        ("state_dict", {"x": 3}, "do not fit together"),
        ("other_parameter", {"forward": 3}, "its values besides the weights are not those of"),
        ("model", "SASRec", r"do not fit together|key|is unknown"),
        ("config", {}, "model None is neither"),
        ("config", None, "config is None"),
        ("dataset_checksum", 3, "dataset_checksum is 3"),
    ],
)
def test_a_best_checkpoint_that_is_none_is_refused(key: str, value: object, words: str, folder: Path) -> None:
    def edit(state: dict[str, Any]) -> dict[str, Any]:
        return {**state, key: value} | ({"config": {**state["config"], "model": "SASRec"}} if key == "model" else {})

    change(folder / "best.pth", edit)
    with pytest.raises(InputError, match=words):
        recbole_session.load(folder)


@pytest.mark.parametrize("key", ["hidden_size", "n_layers", "MAX_ITEM_LIST_LENGTH", "temporal_dim"])
def test_sizes_are_held_against_the_weights_before_memory_is_taken(
    key: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built is, if anything, a model on torch's meta device."""
    devices: list[str] = []
    from recbole_session.model import SessionBERT4Rec

    initialise = SessionBERT4Rec.__init__

    def watched(self: Any, *arguments: Any) -> None:
        devices.append(torch.empty(0).device.type)
        initialise(self, *arguments)

    monkeypatch.setattr(SessionBERT4Rec, "__init__", watched)
    change(folder / "best.pth", lambda state: {**state, "config": {**state["config"], key: 50}})
    with pytest.raises(InputError, match="do not fit together"):
        recbole_session.load(folder)
    assert devices == ["meta"]


@pytest.mark.parametrize("kind", ["compressed", "encrypted"])
def test_archives_that_torch_does_not_write_are_refused(kind: str, folder: Path) -> None:
    path = folder / "best.pth"
    if kind == "compressed":
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    else:
        content = bytearray(path.read_bytes())
        content[content.rindex(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
    with pytest.raises(InputError, match="is compressed or encrypted"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda state: {key: value for key, value in state.items() if key != "optimizer"},
        lambda state: {**state, "optimizer": {}},
        lambda state: {**state, "random": {}},
        lambda state: {**state, "random": {**state["random"], "torch": torch.zeros(3)}},
        lambda state: {**state, "epochs_run": "3"},
        lambda state: {**state, "best": {"state_dict": {}, "other_parameter": None}},
        lambda state: {**state, "finished": True, "best": {}},
    ],
)
def test_a_damaged_last_checkpoint_is_refused_and_the_best_one_stays(edit: Callable[[Any], Any], folder: Path) -> None:
    (folder / "result.json").unlink()
    change(folder / "last.pth", edit)
    before = (folder / "best.pth").read_bytes()
    with pytest.raises(InputError, match=r"last\.pth is damaged"):
        run_session(resume=folder)
    assert (folder / "best.pth").read_bytes() == before


@pytest.mark.parametrize("name", ["run.log", ".lock", "vocabulary.json", "tensorboard/events", ".best.pth.1.tmp"])
def test_a_symbolic_link_is_not_written_through(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / "result.json").unlink()
    target = tmp_path / "elsewhere"
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    with pytest.raises(InputError, match="symbolic link"):
        run_session(resume=folder)
    assert not target.exists()
    target.write_text("mine")
    with pytest.raises(InputError, match="symbolic link"):
        run_session(resume=folder)
    assert target.read_text() == "mine"
