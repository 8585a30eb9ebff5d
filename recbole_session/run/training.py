"""`run_session`: one experiment from keys to results; wires the rooms and nothing else."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from recbole.utils import init_seed
from recbole.utils.logger import RemoveColorFilter

from recbole_session.config.models import available_models
from recbole_session.config.session_config import SessionConfig
from recbole_session.config.values import read_yaml_file
from recbole_session.converters import convert
from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import build_loaders
from recbole_session.distributed import on_first_process, process_count, process_rank, processes_of
from recbole_session.errors import InputError
from recbole_session.evaluator.ranking_evaluator import RankingEvaluator
from recbole_session.files import replacing
from recbole_session.interrupts import Interrupted, signals_raise
from recbole_session.run.checkpoint import State, check_fits, dataset_checksum, read_checkpoint
from recbole_session.run.folder import (
    check_same_configuration,
    claimed,
    command_to_go_on,
    latest_unfinished_run,
    make_run_folder,
    unfinished_run,
)
from recbole_session.run.result import Result, build_result, format_table, write_ranks, write_result
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.vocabulary import write_vocabulary

USAGE = """\
usage: python run_recbole_session.py --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--key=value ...]

Trains a model, evaluates it on the test split among random, popular and all candidates, and writes a run
folder. Values are YAML, later files win over earlier ones, and the command line wins over all:

  python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-100k
  python run_recbole_session.py --model=SessionBERT4Rec --dataset=ml-1m --session_features="[ST,SSE]" --seed=7
  python run_recbole_session.py --model=SASRec --dataset=ml-1m --learning_rate=1e-3
  python run_recbole_session.py --resume=RUN_FOLDER                    go on with a run that was stopped or killed
  python run_recbole_session.py --model=SASRec --dataset=ml-1m --resume      the same, the latest with these keys
  torchrun --nproc_per_node=2 run_recbole_session.py --model=SASRec --dataset=ml-1m      two processes

The README lists the keys. Models: """


def run_session(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    command_line: Sequence[str] = (),
    resume: bool | str | Path = False,
) -> Result:
    """Train and evaluate one model; what RecBole's ``run_recbole`` is to RecBole.

    Parameters
    ----------
    model, dataset, config_file_list, config_dict, command_line
        See `SessionConfig`.
    resume : bool or path
        The folder of an unfinished run, whose keys need not be given again; or True for the latest unfinished
        run with these keys.

    Returns
    -------
    dict
        The content of ``result.json`` and, under ``run_folder``, the path of the folder it lies in.

    Raises
    ------
    InputError
        For a mistake in a key or a file; nothing is written then.
    Interrupted
        At SIGINT or SIGTERM, after the last finished epoch was saved.
    """
    files = list(config_file_list or ())
    if not isinstance(resume, bool):
        files.insert(0, unfinished_run(Path(resume)) / "config.yaml")
    config = SessionConfig(model, dataset, files, config_dict, command_line)
    if not isinstance(resume, bool):
        check_same_configuration(config.resolved, read_yaml_file(files[0]), Path(files[0]))
    with processes_of(config):
        on_first_process(lambda: prepare_bundled_dataset(config))
        init_seed(config["seed"], config["reproducibility"])
        data = SessionDataset(config)
        loaders = build_loaders(config, data)
        evaluator = RankingEvaluator(config, data)
        run_folder = on_first_process(lambda: open_run_folder(config, resume))
        with _sole_writer(run_folder), logging_to(run_folder / "run.log", config["state"]):
            result = _run_in_folder(config, data, loaders, evaluator, run_folder)
    return {**result, "run_folder": str(run_folder)}


def _run_in_folder(config: SessionConfig, data: SessionDataset, loaders: Any, evaluator: Any, folder: Path) -> Result:
    """Train, or go on training, evaluate, and write the results."""
    train_data, valid_data, test_data = loaders
    logger = logging.getLogger()
    logger.info(f"run folder: {folder}")
    for key in config.unused_keys:
        logger.warning(f"{key} is given, but {config['model']} does not read it")
    init_seed(config["seed"], config["reproducibility"])
    network = config["model_class"](config, train_data._dataset).to(config["device"])
    checksum = dataset_checksum(data)
    state = on_first_process(lambda: _state_to_go_on_from(config, folder, network, checksum))
    on_first_process(lambda: write_vocabulary(folder, data))
    trainer = SessionTrainer(config, network, evaluator, folder, checksum)
    init_seed(config["seed"], config["reproducibility"])
    if state is not None:
        trainer.go_on_from(state, train_data)
        logger.info(f"going on after {trainer.epochs_run} epochs")
    try:
        with signals_raise():
            trainer.fit(train_data, valid_data, show_progress=config["show_progress"] and sys.stderr.isatty())
            start = time.perf_counter()
            test = trainer.evaluate(test_data)
            result = build_result(config, data, network, trainer, test, time.perf_counter() - start, checksum)
            if process_rank() == 0:
                write_ranks(folder, data, test)
                write_result(folder, result)
    except Interrupted as signal:
        command = command_to_go_on(folder, process_count())
        message = f"{signal}: {trainer.saved_epochs} finished epochs are saved; go on with: {command}"
        raise Interrupted(message, signal.number) from None
    logger.info(f"results:\n\n{format_table(result, config['metric_decimal_place'])}\n")
    return result


def prepare_bundled_dataset(config: SessionConfig) -> None:
    """Convert ml-100k on first use: it lies inside the recbole package."""
    folder = Path(config["data_path"])
    if config["dataset"] == "ml-100k" and not (folder / "ml-100k.inter").is_file():
        convert("ml-100k", None, folder.parent)


def open_run_folder(config: SessionConfig, resume: bool | str | Path) -> Path:
    """Find the folder of the run to go on with, or make a new one and write config.yaml into it."""
    if resume:
        return latest_unfinished_run(config) if resume is True else Path(resume)
    folder = make_run_folder(config)
    with replacing(folder / "config.yaml") as temporary:
        temporary.write_text(config.dump(), encoding="utf-8")
    return folder


def _state_to_go_on_from(config: SessionConfig, folder: Path, network: Any, checksum: str) -> State | None:
    """Read and check ``last.pth``; None for a run that has not finished an epoch."""
    path = folder / "last.pth"
    if not path.exists():
        return None
    state = read_checkpoint(path)
    check_fits(path, state, network, config["dataset"], checksum)
    check_same_configuration(config.resolved, state["config"], path)
    return state


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Claim the folder in the first process; the others go on when it has it."""
    with ExitStack() as stack:
        on_first_process(lambda: stack.enter_context(claimed(folder)))
        yield


@contextmanager
def logging_to(path: Path, state: str) -> Iterator[None]:
    """Send RecBole's log, the root logger's, to ``path`` and to the terminal while the block runs.

    Of several processes only the first writes; the others send their errors to the terminal.
    """
    root = logging.getLogger()
    level = root.level
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    if process_rank() == 0:
        handlers.append(logging.FileHandler(path, encoding="utf-8"))
        handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    else:
        state = "ERROR"
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
    """Run one experiment from the command line; exit code 0 done, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or {"-h", "--help"} & set(argv):
        print(USAGE + ", ".join(available_models()))
        return 0 if argv else 2
    code, message = 0, ""
    try:
        resume, rest = _split_resume(argv)
        run_session(command_line=rest, resume=resume)
    except InputError as error:
        code, message = 2, str(error)
    except Interrupted as error:
        code, message = error.exit_code, str(error)
    except KeyboardInterrupt:
        code, message = 130, "interrupted before training began; nothing to go on with"
    if message and os.environ.get("RANK", "0") == "0":
        print(f"run_recbole_session: {message}", file=sys.stderr)
    return code


def _split_resume(argv: Sequence[str]) -> tuple[bool | str, list[str]]:
    """Take ``--resume`` or ``--resume=RUN_FOLDER`` out of the arguments."""
    given = [argument for argument in argv if argument.partition("=")[0] == "--resume"]
    if len(given) > 1:
        raise InputError("--resume is given twice; give it once")
    rest = [argument for argument in argv if argument not in given]
    if not given:
        return False, rest
    _, equals, folder = given[0].partition("=")
    if equals and not folder:
        raise InputError("--resume= names no folder; write --resume=RUN_FOLDER, or --resume for the latest one")
    return folder or True, rest
