import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import recbole_session
from recbole_session.cli import main
from recbole_session.errors import InputError
from recbole_session.inference import export
from recbole_session.inference.recommender import Recommender
from tests.conftest import DAY
from tests.inference.conftest import ROWS, TrainToy, histories_and_targets

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "serve_onnx.py"

# Every import of torch, pandas or RecBole fails, and of this package too.
ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "pandas", "recbole", "recbole_session")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def sharpened(folder: Path) -> Recommender:
    """Large weights: every input shows in the scores, every second in the phases."""
    recommender = recbole_session.load(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in recommender.model.named_parameters():
            if "frequencies" not in name:
                parameter.normal_(std=0.5)
    return recommender


@pytest.fixture(scope="module")
def exported(train_toy: TrainToy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, Path]:
    recommender, path = sharpened(train_toy()), tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export.export_onnx(recommender, path) <= 1e-4
    return recommender, path


def serve(path: Path, asks: list[dict[str, object]]) -> list[list[str]]:
    lines = "".join(json.dumps(ask) + "\n" for ask in asks)
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), str(path.with_suffix(""))]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_example_alone_gives_the_same_top_10(exported: tuple[Recommender, Path]) -> None:
    recommender, path = exported
    asks, expected = [], []
    for history, target in histories_and_targets(ROWS).values():
        for now in (int(str(target[2])), int(str(target[2])) + 3 * DAY):
            events = [[row[1], row[2]] for row in history]
            asks.append({"history": [*events, ["unheard of", 5]], "now": now})
            expected.append(recommender.recommend(events, now=now).items)
    assert serve(path, asks) == expected
    assert len({tuple(items) for items in expected}) > 15


def test_the_example_is_ten_lines_and_needs_two_packages() -> None:
    lines = EXAMPLE.read_text().split('"""')[2].splitlines()
    code = [line for line in lines if line.strip()]
    assert [line.split()[1] for line in code if line.startswith("import")] == ["json", "sys", "numpy", "onnxruntime"]
    assert sum(not line.startswith("import") for line in code) == 10


def test_odd_shapes(exported: tuple[Recommender, Path]) -> None:
    recommender, path = exported
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.shape for value in session.get_inputs()] == [["batch", "length"]] * 3
    generator = np.random.default_rng(0)
    for count, length in ((1, 1), (1, 8), (2, 3), (31, 5), (7, 8)):
        batch = {
            "item_seq": generator.integers(1, recommender.vocabulary.n_items + 2, (count, length)),
            "session_seq": np.sort(generator.integers(1, 5, (count, length))),
            "time_seq": np.sort(generator.integers(1_000_000_000, 1_900_000_000, (count, length))),
        }
        hidden = np.arange(length) < generator.integers(0, length, (count, 1))
        batch = {name: np.where(hidden, 0, column) for name, column in batch.items()}
        with torch.no_grad():
            tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
            expected = recommender.model.full_sort_predict(tensors).numpy()
        (scores,) = session.run(None, batch)
        assert scores.shape == expected.shape == (count, recommender.vocabulary.n_items)
        assert np.abs(scores - expected).max() <= 1e-4
        assert np.ptp(expected) > 1


def test_times_stay_exact_to_the_second(exported: tuple[Recommender, Path]) -> None:
    """One second more, at today's timestamps, moves the graph's scores as it moves torch's."""
    recommender, path = exported
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batch = {
        "item_seq": np.array([[1, 2, recommender.vocabulary.n_items]]),
        "session_seq": np.ones((1, 3), dtype=np.int64),
    }
    seen = []
    for second in range(4):
        batch["time_seq"] = np.array([[1_790_000_000, 1_790_000_000 + second, 1_790_000_900]])
        with torch.no_grad():
            tensors = {name: torch.from_numpy(column) for name, column in batch.items()}
            expected = recommender.model.full_sort_predict(tensors).numpy()
        seen.append(session.run(None, batch)[0])
        assert np.abs(seen[-1] - expected).max() <= 1e-4
    assert min(np.abs(one - other).max() for one, other in itertools.pairwise(seen)) > 1e-2


def test_a_model_without_session_tokens(train_toy: TrainToy, tmp_path: Path) -> None:
    recommender, path = sharpened(train_toy(features=())), tmp_path / "model.onnx"
    export.export_onnx(recommender, path)
    history = [["i3", 100], ["i5", 2 * DAY], ["i2", 2 * DAY + 1]]
    assert serve(path, [{"history": history, "now": 9 * DAY}]) == [recommender.recommend(history, now=9 * DAY).items]


def test_a_model_of_recbole_by_the_command(
    train_toy: TrainToy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_toy("SASRec")
    path = tmp_path / "other.onnx"
    assert main(["export", f"--run={folder}", "--format=onnx", f"--output={path}"]) == 0
    assert "differ by at most" in capsys.readouterr().out
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["layout"] == "prefix"
    assert facts["inputs"] == ["item_id_list", "item_length"]
    recommender = recbole_session.load(folder)
    history = [("i3", 100), ("i5", 200), ("i2", 300)]
    inputs = {
        "item_id_list": np.array([[facts["ids"][item] for item, _ in history]]),
        "item_length": np.array([3]),
    }
    scores = onnxruntime.InferenceSession(str(path)).run(None, inputs)[0][0]
    answer = recommender.recommend(history, k=1000, exclude_seen=False)
    expected = [scores[facts["ids"][item]] for item in answer.items]
    assert answer.scores == pytest.approx(expected, abs=1e-4)


def test_a_model_that_torch_cannot_export_is_refused_and_nothing_is_left(
    train_toy: TrainToy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_toy("BERT4Rec")
    capsys.readouterr()
    assert main(["export", f"--run={folder}", f"--output={tmp_path / 'model.onnx'}"]) == 2
    error = capsys.readouterr().err
    assert "BERT4Rec cannot be exported to ONNX by torch" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_refused_and_nothing_is_left(
    train_toy: TrainToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = recbole_session.load(train_toy())
    monkeypatch.setattr(export, "_write_graph", lambda recommender, names, batch, path: path.write_bytes(b"graph"))
    for difference in (2e-4, float("nan"), float("inf")):
        monkeypatch.setattr(export, "largest_difference", lambda *arguments, value=difference: value)
        with pytest.raises(InputError, match="cannot be exported faithfully"):
            export.export_onnx(recommender, tmp_path / "model.onnx")
        assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told(train_toy: TrainToy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = recbole_session.load(train_toy())
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        export.export_onnx(recommender, tmp_path / "model.bin")
    with pytest.raises(InputError, match="there is no folder"):
        export.export_onnx(recommender, tmp_path / "nowhere" / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"export needs onnxscript: pip install 'recbole-session\[export\]'"):
        export.export_onnx(recommender, tmp_path / "model.onnx")
