"""The scoring function of a trained model as an ONNX file, with what a server needs to know beside it."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_session.data.batches import batch_layout, input_length, mask_token, session_token
from recbole_session.errors import InputError, missing
from recbole_session.files import check_writable, replacing
from recbole_session.inference.histories import Request, gather_histories
from recbole_session.inference.recommender import Recommender

TOLERANCE = 1e-4  # largest difference of a score between onnxruntime and torch


class _Recorder(dict[str, Tensor]):
    """A batch that remembers which of its columns the model reads."""

    def __init__(self, columns: dict[str, Tensor]) -> None:
        super().__init__(columns)
        self.read: list[str] = []

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.read:
            self.read.append(name)
        return super().__getitem__(name)


class _Scorer(nn.Module):
    """A model whose inputs are plain tensors, in the order of ``names``."""

    def __init__(self, model: Any, names: list[str], n_items: int) -> None:
        super().__init__()
        self.model: Any = model
        self.names, self.n_items = names, n_items

    def forward(self, *columns: Tensor) -> Tensor:
        """Scores ``[B, n_items]``."""
        batch = dict(zip(self.names, columns, strict=True))
        return self.model.full_sort_predict(batch).view(-1, self.n_items)


def export_onnx(recommender: Recommender, path: Path) -> float:
    """Write ``path`` and, beside it, the same name ending in ``.json``; both, or none.

    The graph takes int64 inputs of any batch size and any length up to ``length`` and gives ``scores``
    ``[batch, n_items]``. Times stay int64 seconds; their phases are computed in float64 within the graph. The
    JSON file holds ``inputs`` (their order), ``ids`` (internal id by raw id), ``layout``, ``length``, ``mask``,
    ``session_token`` (0: none) and ``session_gap``.

    The recommender is on the CPU, and the path ends in ``.onnx``. Returns the largest difference between onnxruntime's
    and torch's scores over odd batch sizes and lengths. An `InputError` if a package is missing, the model cannot be
    exported, or the two differ by more than `TOLERANCE`.
    """
    check_output(path)
    batches = list(probe_batches(recommender))
    names = _inputs_of(recommender, batches[0])
    with replacing(path) as graph, replacing(path.with_suffix(".json")) as facts:
        _write_graph(recommender, names, batches[0], graph)
        difference = largest_difference(recommender, names, batches, graph)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{recommender.config['model']}: onnxruntime and torch differ by {difference:.2g}, more than "
                f"{TOLERANCE:g}; this model cannot be exported faithfully"
            )
        config, n_items = recommender.config, recommender.vocabulary.n_items
        content = {
            "model": config["model"],
            "layout": batch_layout(config),
            "inputs": names,
            "length": input_length(config),
            "mask": mask_token(n_items) if batch_layout(config) == "tokens" else None,
            "session_token": session_token(n_items) if "ST" in (config["session_features"] or ()) else 0,
            "session_gap": config["session_gap"],
            "ids": recommender.item_ids,
        }
        facts.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return difference


def probe_batches(recommender: Recommender) -> Iterator[dict[str, Tensor]]:
    """Inputs of made-up histories in odd shapes: one and many, shortest and longest, padded and full."""
    config, longest = recommender.config, input_length(recommender.config)
    generator = np.random.default_rng(0)
    for count, length in ((3, longest), (1, 2), (1, longest), (17, max(longest - 1, 2)), (5, min(7, longest))):
        requests = []
        for place in range(count):
            n_events = length if place == 0 else int(generator.integers(1, length + 1))
            items = generator.choice(recommender.vocabulary.items, n_events)
            gaps = np.where(generator.random(n_events) < 0.3, 200_000, 0) + generator.integers(0, 4000, n_events)
            times = (1_700_000_000 + gaps.cumsum()).tolist()
            requests.append(
                Request(list(zip(items.tolist(), times, strict=True)), now=times[-1] + 100_000 * (place % 2))
            )
        histories = gather_histories(requests, recommender.item_ids, config["session_gap"])
        columns = recommender.batch(histories).interaction
        cut = slice(-length, None) if batch_layout(config) == "tokens" else slice(length)  # where padding lies
        yield {name: column[:, cut] if column.dim() == 2 else column for name, column in columns.items()}


def _inputs_of(recommender: Recommender, batch: dict[str, Tensor]) -> list[str]:
    """Columns that the model reads."""
    recorder = _Recorder(batch)
    try:
        with torch.no_grad():
            recommender.model.full_sort_predict(recorder)
    except NotImplementedError as error:
        raise InputError(f"{recommender.config['model']} scores items one by one and cannot be exported") from error
    return recorder.read


def _write_graph(recommender: Recommender, names: list[str], batch: dict[str, Tensor], path: Path) -> None:
    scorer = _Scorer(recommender.model, names, recommender.vocabulary.n_items).eval()
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple({axis: dynamic for axis in range(batch[name].dim())} for name in names)
    try:
        with _quietly():
            program = torch.onnx.export(
                scorer,
                tuple(batch[name] for name in names),
                dynamo=True,
                dynamic_shapes=(shapes,),  # of *columns
                input_names=names,
                output_names=["scores"],
                verbose=False,
            )
        if program is None:
            raise RuntimeError("no program")
        _name_dimensions(program, names, batch)
        program.save(str(path))
    except Exception as error:  # the exporter has a dozen kinds, most of them private
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"{recommender.config['model']} cannot be exported to ONNX by torch: {reason}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hush the exporter: it prints its progress, and warns of packages that it does not need."""
    quiet, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _name_dimensions(program: Any, names: list[str], batch: dict[str, Tensor]) -> None:
    """Call the free axes ``batch`` and ``length``, where the exporter writes s31 and the like."""
    for value, name in zip(program.model.graph.inputs, names, strict=True):
        shape = list(value.shape)
        for axis in range(batch[name].dim()):
            shape[axis] = ("batch", "length")[axis]
        value.shape = type(value.shape)(shape)
    output = program.model.graph.outputs[0]
    output.shape = type(output.shape)(["batch", *list(output.shape)[1:]])


def largest_difference(
    recommender: Recommender, names: list[str], batches: list[dict[str, Tensor]], path: Path
) -> float:
    """Largest absolute difference between the scores of onnxruntime and of torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences = []
    for batch in batches:
        with torch.no_grad():
            expected = recommender.model.full_sort_predict(Interaction(batch)).view(-1, recommender.vocabulary.n_items)
        scores = session.run(None, {name: batch[name].numpy() for name in names})[0]
        if scores.shape != tuple(expected.shape):
            return float("inf")
        differences.append(float(np.abs(scores - expected.numpy()).max()))
    return max(differences)


def check_output(path: Path) -> None:
    """Refuse a path that `export_onnx` could not write to, and missing packages."""
    if path.suffix != ".onnx":
        raise InputError(f"output is {path}; it must end in .onnx")
    check_writable(path, path.with_suffix(".json"))
    absent = [package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None]
    if absent:
        raise missing("export", ", ".join(absent), "export")
