"""Checkpoints: tensors and plain data in one file, written whole or not at all, read without running code.

Two of them lie in a run folder. ``best.pth`` holds the weights of the best epoch. ``last.pth`` holds all that
the next epoch depends on, the best weights included, so that this one file says where to go on.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_session.errors import InputError
from recbole_session.files import replacing
from recbole_session.run.schema import NUMBER, Fields, check_fields

FORMAT = "recbole-session checkpoint 1"

State = dict[str, Any]

_WEIGHTS: Fields = {"state_dict": dict, "other_parameter": (dict, type(None))}
_FIELDS: Fields = {"model": str, "dataset": str, "dataset_checksum": str, "config": dict, **_WEIGHTS}
# What last.pth holds besides.
_PROGRESS: Fields = {
    **dict.fromkeys(("epochs_run", "cur_step", "best_epoch"), int),
    **dict.fromkeys(("train_seconds", "best_valid_score"), NUMBER),
    **dict.fromkeys(("optimizer", "random", "best"), dict),
    "finished": bool,
    "best_valid_result": (dict, type(None)),
}


def check_progress(path: Path, state: State) -> None:
    """Refuse a ``last.pth`` that lacks what the next epoch depends on."""
    check_fields(path, state, _PROGRESS)
    if state["best"] or state["finished"]:
        check_fields(path, state["best"], _WEIGHTS, "best.")


def cpu_copy(value: Any) -> Any:
    """Copy of ``value`` made of CPU tensors and plain data alone, independent of the original.

    Raises
    ------
    TypeError
        For anything that the weights-only loader would refuse.
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
    raise TypeError(f"a checkpoint holds tensors and plain data, no {type(value).__name__}")


def write_checkpoint(path: Path, state: State) -> None:
    """Write ``state`` so that ``path`` is, at any moment, the old file or the new one.

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written to; the old file stays.
    """
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
    """Read a checkpoint; nothing in it is executed, and its check sums must hold.

    Raises
    ------
    InputError
        If the file is missing, cut short, damaged, holds Python objects, or is no checkpoint of this project.
    """
    _check_archive(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds Python objects besides tensors and plain data (a pickle payload), which could run code; "
            "nothing of it was loaded; use a checkpoint that this program wrote"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is damaged: it cannot be read as a checkpoint; use another one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is no checkpoint of recbole-session ({FORMAT!r}); use best.pth or last.pth of a run")
    check_fields(path, state, _FIELDS)
    return state


def _check_archive(path: Path) -> None:
    """Refuse what is no whole zip archive, the form of torch's files; torch itself checks no sums."""
    try:
        with path.open("rb") as file:
            head = file.read(2)
        if head == b"PK" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                # torch's files are neither compressed, which could make much of little, nor encrypted.
                strange = [part.filename for part in archive.infolist() if part.compress_type or part.flag_bits & 1]
                damaged = strange[0] if strange else archive.testzip()
            if damaged is not None:
                what = "is compressed or encrypted" if strange else "has a wrong check sum"
                raise InputError(f"{path} is damaged: its part {damaged!r} {what}; use another one")
            return
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is damaged: {error}; use another one") from error
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    if head[:1] == b"\x80":  # the first byte of every pickle since protocol 2
        raise InputError(
            f"{path} is a Python pickle, which could run code when it is loaded; nothing of it was loaded; "
            "use a checkpoint that this program wrote"
        )
    if head in (b"PK", b""):
        raise InputError(f"{path} is truncated: it ends before its table of contents; use another one")
    raise InputError(f"{path} is no checkpoint: torch's files start with 'PK', this one with {head!r}")


def check_fits(path: Path, state: State, model: nn.Module, dataset: str, checksum: str) -> None:
    """Refuse a checkpoint of another model, dataset or architecture.

    Parameters
    ----------
    path : Path
        Named in the message.
    state : dict
        See `read_checkpoint`.
    model : nn.Module
        The model that shall take the weights.
    dataset, checksum : str
        Name and `dataset_checksum` of the data in use.

    Raises
    ------
    InputError
        Saying which of them differs, and how.
    """
    name = type(model).__name__
    if state["model"] != name:
        raise InputError(f"{path} is from another architecture: it holds a {state['model']}, the run is a {name}")
    if state.get("dataset") != dataset:
        raise InputError(f"{path} is from another dataset: {state.get('dataset')!r}, and the run is on {dataset!r}")
    if state.get("dataset_checksum") != checksum:
        raise InputError(
            f"{path}: dataset {dataset!r} has changed since this was written (its checksum was "
            f"{str(state.get('dataset_checksum'))[:12]} and is {checksum[:12]}); bring the old data back, "
            "or start a new run"
        )
    problem = misfit(state, model)
    if problem:
        raise InputError(f"{path} is from another architecture: {problem}; use the keys of the run that wrote it")


def misfit(weights: State, model: nn.Module) -> str:
    """Say why saved weights are not those of ``model``; empty if they are.

    Parameters
    ----------
    weights : dict
        ``state_dict`` and ``other_parameter``, see RecBole's models.
    model : nn.Module
        May be on torch's meta device.
    """
    ours: dict[str, Any] = dict(model.state_dict())
    for part in (*ours, *weights["state_dict"]):
        there, here = (_shape(tensors.get(part)) for tensors in (weights["state_dict"], ours))
        if there != here:
            return f"{part} is {there} there and {here} in this {type(model).__name__}"
    others, expected = weights["other_parameter"] or {}, _other_parameter(model)
    if others.keys() != expected.keys() or not all(
        _fits(others[name], value) for name, value in expected.items() if isinstance(value, Tensor)
    ):
        return f"its values besides the weights are not those of a {type(model).__name__}"
    return ""


def _fits(saved: Any, fresh: Tensor) -> bool:
    """Whether a saved tensor can take the place of a model's initial one; training may add rows to an empty table."""
    if not isinstance(saved, Tensor):
        return False
    return saved.shape == fresh.shape or (fresh.numel() == 0 and saved.shape[1:] == fresh.shape[1:])


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else "missing"


def _other_parameter(model: nn.Module) -> State:
    """What RecBole's model keeps besides its weights; none for a plain module."""
    return getattr(model, "other_parameter", dict)() or {}


def load_weights(weights: State, model: nn.Module, device: torch.device) -> None:
    """Put weights that fit, see `misfit`, into a model on ``device``."""
    model.load_state_dict(weights["state_dict"])
    others = weights["other_parameter"] or {}
    load: Any = model.load_other_parameter
    load({name: value.to(device) if isinstance(value, Tensor) else value for name, value in others.items()})


def dataset_checksum(dataset: Any) -> str:
    """SHA-256 of the interactions as they are trained on: order, items, times, sessions and raw tokens.

    Parameters
    ----------
    dataset : SessionDataset
        After `SessionDataset.build`.
    """
    digest = hashlib.sha256()
    rows = dataset.sequences
    for array in (rows.offsets, rows.items, rows.times, rows.sessions):
        digest.update(array.numpy().tobytes())
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update("\0".join(map(str, dataset.field2id_token[field])).encode())
    return digest.hexdigest()


def random_states(loader: Any, device: torch.device) -> State:
    """States of all sources of random numbers: torch, its device, numpy, Python, and the loader that shuffles."""
    name, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002  RecBole's samplers draw from it
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *map(float, position)],
        "python": [version, torch.tensor(words), gauss],
        "loader": loader.generator.get_state(),
    }


def set_random_states(states: State, loader: Any, device: torch.device) -> None:
    """Undo of `random_states`."""
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["device"], device)
    name, keys, position, has_gauss, gauss = states["numpy"]
    numpy_state = (name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), gauss)
    np.random.set_state(numpy_state)  # noqa: NPY002
    version, words, python_gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), python_gauss))
    loader.generator.set_state(states["loader"])
