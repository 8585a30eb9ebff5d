"""Checkpoints: tensors and plain data in one file, written whole or not at all, read without running code.

A run folder holds two. ``best.pth`` has the weights of the best epoch. ``last.pth`` has everything that the next epoch
depends on, the best weights included, so that this one file is enough to resume.
"""

import hashlib
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_session.errors import InputError
from recbole_session.files import replacing
from recbole_session.run.schema import NUMBER, Fields, check_fields, damaged

FORMAT = "recbole-session checkpoint 1"

State = dict[str, Any]

_WEIGHTS: Fields = {"state_dict": dict, "other_parameter": dict}
_FIELDS: Fields = {"model": str, "dataset": str, "dataset_checksum": str, "config": dict, **_WEIGHTS}
# Attributes of the trainer that last.pth holds besides.
PROGRESS: Fields = {
    **dict.fromkeys(("epochs_run", "cur_step", "best_epoch"), int),
    **dict.fromkeys(("train_seconds", "best_valid_score"), NUMBER),
    "finished": bool,
    "best_valid_result": (dict, type(None)),
}


def cpu_copy(value: Any) -> Any:
    """Copy of ``value`` made of CPU tensors and plain data alone, independent of the original.

    Anything that the weights-only loader would refuse is a `TypeError`.
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {cpu_copy(key): cpu_copy(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(cpu_copy, value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain data, not a {type(value).__name__}")


def write_checkpoint(path: Path, state: State) -> None:
    """Write ``state``; if the disk is full or the folder cannot be written to, the old file stays (`InputError`)."""
    try:
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, **state}, temporary)
    except (InputError, RuntimeError) as error:  # torch's own writer reports a full disk by RuntimeError
        reason = getattr(error.__cause__, "strerror", None) or "the disk is full or the folder cannot be written to"
        raise InputError(
            f"{path} cannot be written: {reason}; the checkpoint before it is untouched, so make room and resume with "
            f"--resume={path.parent}"
        ) from error


def read_checkpoint(path: Path) -> State:
    """Read a checkpoint; nothing in it is executed, and its checksums must hold.

    A file that is missing, cut short or damaged, holds Python objects, or is not this project's is an `InputError`.
    """
    _check_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds Python objects besides tensors and plain data (a pickle payload), which could run code; "
            "nothing of it was loaded; use a checkpoint that this program wrote"
        ) from error
    except Exception as error:
        raise damaged(path, "it cannot be read as a checkpoint") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is not a {FORMAT!r}; use best.pth or last.pth of a run")
    check_fields(path, state, _FIELDS)
    return state


def _check_archive(path: Path) -> None:
    """Refuse anything but a whole zip archive, the form of torch's files; torch itself verifies no checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch neither compresses its files, which could hide a huge one in a small one, nor encrypts them.
            strange = [part.filename for part in archive.infolist() if part.compress_type or part.flag_bits & 1]
            wrong = strange[0] if strange else archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(2)
        raise InputError(
            f"{path} is not a whole checkpoint ({error}; its first bytes are {start!r}), and nothing of it was loaded; "
            "use a file that this program wrote"
        ) from error
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if wrong is not None:
        raise damaged(path, f"its part {wrong!r} {'is compressed or encrypted' if strange else 'has a wrong checksum'}")


def check_fits(path: Path, state: State, parts: Any) -> None:
    """Refuse a ``last.pth`` that lacks something, or is of another model or dataset than the run's `build.Parts`."""
    model, dataset, checksum = parts.model, parts.config["dataset"], parts.checksum
    name = type(model).__name__
    if state["model"] != name:
        raise InputError(f"{path} is from another architecture: it holds a {state['model']}, the run is a {name}")
    if state["dataset"] != dataset:
        raise InputError(f"{path} is from another dataset: {state['dataset']!r}, and the run is on {dataset!r}")
    if state["dataset_checksum"] != checksum:
        raise InputError(
            f"{path}: dataset {dataset!r} has changed since this was written (its checksum was "
            f"{state['dataset_checksum'][:12]} and is {checksum[:12]}); bring the old data back, or start a new run"
        )
    if problem := misfit(state, model):
        raise InputError(f"{path} is from another architecture: {problem}; use the keys of the run that wrote it")
    check_fields(path, state, {**PROGRESS, **dict.fromkeys(("optimizer", "random", "best"), dict)})
    if state["best"] or state["finished"]:
        check_fields(path, state["best"], _WEIGHTS, "best.")
        if problem := misfit(state["best"], model):
            raise damaged(path, f"best: {problem}")


def misfit(weights: State, model: Any) -> str:
    """Say why saved weights are not those of ``model``, which may be on torch's meta device; empty if they are."""
    theirs: State = weights["state_dict"]
    ours: State = dict(model.state_dict())
    for part in (*ours, *theirs):
        there, here = _shape(theirs.get(part)), _shape(ours.get(part))
        if there != here:
            return f"{part} is {there} there and {here} in this {type(model).__name__}"
    theirs, ours = weights["other_parameter"], model.other_parameter()
    tensors = [(theirs.get(name), value) for name, value in ours.items() if isinstance(value, Tensor)]
    if theirs.keys() != ours.keys() or not all(_can_replace(*pair) for pair in tensors):
        return f"its values besides the weights are not those of a {type(model).__name__}"
    return ""


def _can_replace(saved: Any, fresh: Tensor) -> bool:
    """Whether a saved tensor can replace a model's initial one; training may add rows to an empty table."""
    first = int(fresh.numel() == 0)
    return isinstance(saved, Tensor) and saved.shape[first:] == fresh.shape[first:]


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else "missing"


def weights_of(model: Any) -> State:
    """Weights of one of RecBole's models or ours, and what it keeps besides them; not copied."""
    return {"state_dict": model.state_dict(), "other_parameter": model.other_parameter()}


def load_weights(weights: State, model: Any, device: torch.device) -> None:
    """Put weights that fit, see `misfit`, into a model on ``device``."""
    model.load_state_dict(weights["state_dict"])
    others = weights["other_parameter"]
    tensors = {name: value.to(device) for name, value in others.items() if isinstance(value, Tensor)}
    model.load_other_parameter({**others, **tensors})


def dataset_checksum(dataset: Any) -> str:
    """SHA-256 of the interactions of a built `SessionDataset`: order, items, times, sessions and raw ids."""
    digest = hashlib.sha256()
    rows = dataset.sequences
    for array in (rows.offsets, rows.items, rows.times, rows.sessions):
        digest.update(array.numpy())
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update("\0".join(map(str, dataset.field2id_token[field])).encode())
    return digest.hexdigest()


def random_states(loader: Any, device: torch.device) -> State:
    """States of all sources of random numbers: torch, its device, numpy, Python, and the loader that shuffles."""
    state: Any = np.random.get_state()  # noqa: NPY002  RecBole's samplers draw from it
    name, keys, *rest = state
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, keys.tolist(), *rest],
        "python": random.getstate(),
        "loader": loader.generator.get_state(),
    }


def set_random_states(states: State, loader: Any, device: torch.device) -> None:
    """Undo of `random_states`."""
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["device"], device)
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
    loader.generator.set_state(states["loader"])
