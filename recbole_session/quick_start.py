"""`run_session`: one experiment from keys to results; wires the rooms and nothing else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole.utils import init_seed
from recbole.utils.logger import RemoveColorFilter

from recbole_session.config import SessionConfig, available_models
from recbole_session.converters import convert
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.data.vocabulary import write_vocabulary
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.files import replacing
from recbole_session.results import Result, build_result, format_table, write_ranks, write_result
from recbole_session.trainer import SessionTrainer

USAGE = """\
usage: python run_recbole_session.py --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--key=value ...]

Trains a model, evaluates it on the test split among random, popular and all candidates, and writes a run
folder. Values are YAML, later files win over earlier ones, and the command line wins over all:

  python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-100k
  python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-1m --session_features="[ST,SSE]" --seed=7
  python run_recbole_session.py --model=SASRec --dataset=ml-1m --learning_rate=1e-3

The README lists the keys. Models: """


def run_session(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    command_line: Sequence[str] = (),
) -> Result:
    """Train and evaluate one model; what RecBole's ``run_recbole`` is to RecBole.

    Parameters
    ----------
    model, dataset, config_file_list, config_dict, command_line
        See `SessionConfig`.

    Returns
    -------
    dict
        The content of ``result.json`` and, under ``run_folder``, the path of the folder it lies in.

    Raises
    ------
    InputError
        For a mistake in a key or a file; nothing is written then.
    """
    config = SessionConfig(model, dataset, config_file_list, config_dict, command_line)
    _prepare_bundled_dataset(config)
    init_seed(config["seed"], config["reproducibility"])
    data = SessionDataset(config)
    train_data, valid_data, test_data = build_loaders(config, data)
    evaluator = RankingEvaluator(config, data)

    run_folder = make_run_folder(config)
    with logging_to(run_folder / "run.log", config["state"]):
        logger = logging.getLogger()
        logger.info(f"run folder: {run_folder}")
        for key in config.unused_keys:
            logger.warning(f"{key} is given, but {config['model']} does not read it")
        with replacing(run_folder / "config.yaml") as temporary:
            temporary.write_text(config.dump(), encoding="utf-8")
        write_vocabulary(run_folder, data)
        init_seed(config["seed"], config["reproducibility"])
        network = config["model_class"](config, train_data._dataset).to(config["device"])
        trainer = SessionTrainer(config, network, evaluator, run_folder)
        trainer.fit(train_data, valid_data, show_progress=config["show_progress"] and sys.stderr.isatty())
        start = time.perf_counter()
        test = trainer.evaluate(test_data)
        result = build_result(config, data, network, trainer, test, time.perf_counter() - start)
        write_ranks(run_folder, data, test)
        write_result(run_folder, result)
        logger.info(f"results:\n\n{format_table(result, config['metric_decimal_place'])}\n")
    return {**result, "run_folder": str(run_folder)}


def _prepare_bundled_dataset(config: SessionConfig) -> None:
    """Convert ml-100k on first use: it lies inside the recbole package."""
    folder = Path(config["data_path"])
    if config["dataset"] == "ml-100k" and not (folder / "ml-100k.inter").is_file():
        convert("ml-100k", None, folder.parent)


def make_run_folder(config: SessionConfig) -> Path:
    """Make ``<checkpoint_dir>/<dataset>/<model>-<date>-<time>``; a number is added where it exists already."""
    parent = Path(config["checkpoint_dir"]) / config["dataset"]
    name = f"{config['model']}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 1000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"checkpoint_dir {config['checkpoint_dir']!r}: cannot make {folder}: {error.strerror}"
            ) from error
        return folder
    raise InputError(f"{parent} holds 999 runs of this second")


@contextmanager
def logging_to(path: Path, state: str) -> Iterator[None]:
    """Send RecBole's log, the root logger's, to ``path`` and to the terminal while the block runs."""
    root = logging.getLogger()
    level = root.level
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8"), logging.StreamHandler()]
    handlers[0].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers[1].setFormatter(logging.Formatter("%(message)s"))
    for handler in handlers:
        handler.addFilter(RemoveColorFilter())
        root.addHandler(handler)
    root.setLevel(str(state or "INFO").upper())
    try:
        yield
    finally:
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one experiment from the command line; exit code 0 done, 2 the user's mistake, 130 Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE + ", ".join(available_models()))
        return 0 if argv else 2
    try:
        run_session(command_line=argv)
    except InputError as error:
        print(f"run_recbole_session: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run_recbole_session: interrupted; the run folder keeps the best epoch so far", file=sys.stderr)
        return 130
    return 0
