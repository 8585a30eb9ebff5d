"""``kill -9`` at random moments, and the same command again: nothing is lost, and nothing is left over.

``RECBOLE_SESSION_KILLS=20`` kills twenty processes per command. Training and comparisons, which have more to resume,
are killed in ``run/test_resume.py`` and ``compare/test_comparing.py``.
"""

import csv
import importlib.util
import shutil
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from recbole_session.run.training import run_session
from tests.conftest import TINY_MODEL, random_rows, tree
from tests.processes import CONTEXT, keys_of, kill_at_random, run_command


def start(argv: list[str], log: Path, first: Callable[[], None] | None = None) -> BaseProcess:
    process = CONTEXT.Process(target=run_command, args=(argv, log, first))
    process.start()
    return process


def kill_and_repeat(
    argv: list[str], base: Path, first: Callable[[], None] | None = None
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Run a command to its end; kill it again and again while it writes into another folder, and run it again there.

    ``OUT`` in the arguments is the folder to write to. Returns what lies in both.
    """
    whole, out, log = (base / name for name in ("whole", "out", "log"))

    def command(folder: Path) -> list[str]:
        return [argument.replace("OUT", str(folder)) for argument in argv]

    begun = time.monotonic()
    whole.mkdir()
    process = start(command(whole), log, first)
    process.join()
    assert process.exitcode == 0, log.read_text()
    seconds = time.monotonic() - begun
    out.mkdir()
    kill_at_random(lambda: start(command(out), log, first), seconds)
    process = start(command(out), log, first)
    process.join()
    assert process.exitcode == 0, log.read_text()
    return tree(whole), tree(out)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and its dataset."""
    base = tmp_path_factory.mktemp("kills")
    (base / "data" / "toy").mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in random_rows(60))]
    (base / "data" / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")
    places = {"data_path": str(base / "data"), "checkpoint_dir": str(base / "saved"), "use_gpu": False}
    keys = {**TINY_MODEL, **places, "num_negatives": 10, "state": "ERROR", "train_batch_size": 64}
    return Path(run_session("SessionBERT4Rec", "toy", config_dict=keys)["run_folder"])


def test_convert(tmp_path: Path) -> None:
    raw = tmp_path / "raw.csv"
    rows = [f"u{row % 997},i{row % 89},{10**9 + row}\n" for row in range(20_000)]
    raw.write_text("user,item,time\n" + "".join(rows))
    columns = ["--user_col=user", "--item_col=item", "--time_col=time", "--all_users"]
    argv = ["convert", "generic", f"--raw={raw}", "--dataset=toy", "--data_path=OUT", *columns]
    whole, out = kill_and_repeat(argv, tmp_path)
    assert out == whole
    assert set(whole) == {"toy/toy.inter", "toy/dataset.json"}


def test_recommend(run_folder: Path, tmp_path: Path) -> None:
    argv = ["recommend", f"--run={run_folder}", "--output=OUT/answers.csv", "--batch_size=1"]
    before = tree(run_folder)
    whole, out = kill_and_repeat(argv, tmp_path)
    assert out == whole
    assert set(whole) == {"answers.csv"}
    assert tree(run_folder) == before


@pytest.mark.skipif(not importlib.util.find_spec("onnxscript"), reason="needs the extra export")
def test_export(run_folder: Path, tmp_path: Path) -> None:
    import onnx

    argv = ["export", f"--run={run_folder}", "--output=OUT/model.onnx"]
    before = tree(run_folder)
    whole, out = kill_and_repeat(argv, tmp_path)
    assert set(out) == set(whole) == {"model.onnx", "model.json"}
    assert out["model.json"] == whole["model.json"]
    weights = [
        {tensor.name: tensor.raw_data for tensor in onnx.load_from_string(files["model.onnx"]).graph.initializer}
        for files in (whole, out)
    ]
    assert weights[0] == weights[1]
    assert tree(run_folder) == before


def _soon_lost() -> None:
    """Let a trial without a sign of life be repeated after seconds."""
    from recbole_session.tune import tuning

    tuning.HEARTBEAT_SECONDS, tuning.GRACE_SECONDS = 1, 2


def test_tune(run_folder: Path, tmp_path: Path) -> None:
    """A grid, each of whose points is tried in full once, whichever trials were lost."""
    pytest.importorskip("optuna")
    (tmp_path / "space.yaml").write_text("hidden_size: [4, 8]\nn_heads: [1, 2]\n")
    shutil.copytree(run_folder.parents[2] / "data", tmp_path / "data")
    keys = keys_of(tmp_path, epochs=3, eval_step=1, checkpoint_dir="OUT")
    given = [f"--{key}={value}" for key, value in keys.items() if key not in ("hidden_size", "n_heads")]
    argv = ["tune", "--dataset=toy", f"--search={tmp_path / 'space.yaml'}", "--sampler=grid", *given]
    files = kill_and_repeat(argv, tmp_path, _soon_lost)
    found = []
    for each in files:
        rows = csv.DictReader(each["toy/tuning-SessionBERT4Rec/trials.csv"].decode().splitlines())
        rows = [row for row in rows if row["state"] == "complete"]
        found.append(sorted((row["hidden_size"], row["n_heads"], row["value"]) for row in rows))
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert set(files[0]) == set(files[1])
