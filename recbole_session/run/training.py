"""`run_session`: one run from keys to results."""

import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole.utils.logger import RemoveColorFilter

from recbole_session.compat import readable_line
from recbole_session.config.session_config import SessionConfig
from recbole_session.data.loaders import train_loader
from recbole_session.distributed import on_first_process, process_count, process_rank, processes_of
from recbole_session.evaluator.ranking_evaluator import SplitRanks
from recbole_session.files import write_text
from recbole_session.interrupts import Interrupted, signals_noted
from recbole_session.run import folder as folders
from recbole_session.run.build import Parts, build, fresh_model
from recbole_session.run.loggers import check_loggers, metric_names
from recbole_session.run.ranks import ranks_csv
from recbole_session.run.result import Result, build_result, format_table
from recbole_session.run.trainer import SessionTrainer
from recbole_session.run.vocabulary import write_vocabulary


def run_session(
    model: str | type | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    command_line: Sequence[str] = (),
    resume: bool | str | Path = False,
) -> Result:
    """Train and evaluate one model, as RecBole's ``run_recbole`` does.

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
        The content of ``result.json`` and, under ``run_folder``, the path of its folder.

    Raises
    ------
    InputError
        For a mistake in a key or a file; nothing is written then.
    Interrupted
        At SIGINT or SIGTERM, after the last finished epoch was saved.
    """
    old = None if isinstance(resume, bool) else folders.unfinished_run(Path(resume))
    files = [*([old / folders.CONFIG_FILE] if old else []), *(config_file_list or [])]
    config = SessionConfig(model, dataset, files, config_dict, command_line)
    if old:
        folders.check_same_configuration(config.resolved, folders.read_config(old), old / folders.CONFIG_FILE)
    check_loggers(config)
    with processes_of(config), ExitStack() as stack:
        parts = build(config)
        run_folder = on_first_process(lambda: folders.open_run_folder(config, resume))
        on_first_process(lambda: stack.enter_context(folders.claimed(run_folder)))  # the others wait for that
        stack.enter_context(logging_to(run_folder / folders.LOG_FILE, config["state"]))
        result = _run_in_folder(parts, run_folder)
    return {**result, "run_folder": str(run_folder)}


def _run_in_folder(parts: Parts, folder: Path) -> Result:
    """Train, or resume training, evaluate, and write the results."""
    config, logger = parts.config, logging.getLogger()
    logger.info(f"run folder: {folder}")
    for key in config.unused_keys:
        logger.warning(f"{key} is given, but {config['model']} does not read it")
    for sentence in parts.dataset.unknown_to_training():
        logger.info(sentence)
    trainer = _trainer(parts, folder)
    on_first_process(lambda: write_vocabulary(folder, parts.dataset))
    if not trainer.finished:
        on_first_process(lambda: folders.write_resumed_config(folder, config))
    try:
        with signals_noted(), trainer.run_log:
            trainer.fit(parts.train, parts.valid)
            start = time.perf_counter()
            test = trainer.evaluate(parts.test)
            result = build_result(parts, trainer, test, time.perf_counter() - start)
            if config["refit"]:
                result["refit_epochs"] = trainer.best_epoch + 1
                _refit(parts, folder, trainer.best_epoch + 1)
            if process_rank() == 0:
                write_text(folder / folders.ranks_file("told"), ranks_csv(parts.dataset, test))
                write_text(folder / folders.RESULT_FILE, json.dumps(result, indent=2) + "\n")
            splits = {"test": test, **({"best_valid": trainer.evaluate(parts.valid)} if parts.valid else {})}
            for split, ranks in splits.items():  # of the best epoch
                trainer.run_log.log(metric_names(split, ranks.metrics), trainer.best_epoch + 1)
    except Interrupted as signal:
        command = folders.resume_command(folder, process_count())
        message = f"{trainer.saved_epochs} finished epochs are saved; resume with: {command}"
        if (folder / folders.RESULT_FILE).exists():
            message = f"the run in {folder} is finished"
        raise Interrupted(f"{signal}: {message}", signal.number) from None
    for sentence in _too_few_negatives(config, test):
        logger.warning(sentence)
    logger.info(f"results:\n\n{format_table(result, config['metric_decimal_place'])}\n")
    return result


def _too_few_negatives(config: SessionConfig, test: SplitRanks) -> list[str]:
    """Sentences about the sets in which test targets have fewer negatives than ``num_negatives``."""
    sentences = []
    for name in ("random", "popular"):
        if name in config["eval_candidates"] and (
            few := int((test.n_candidates[name] <= config["num_negatives"]).sum())
        ):
            sentences.append(
                f"candidate set {name!r}: {few:,} of {len(test.users):,} test targets have fewer than num_negatives = "
                f"{config['num_negatives']:,} negatives, as the catalogue has no more that their users never met"
            )
    return sentences


def _trainer(parts: Parts, folder: Path, refit_epochs: int | None = None) -> SessionTrainer:
    """Return a trainer that starts, or that resumes from what ``folder`` holds."""
    state = on_first_process(lambda: parts.saved_state(folder))
    trainer = SessionTrainer(parts, folder, refit_epochs)
    if state is not None:
        trainer.resume_from(state, parts.train)
        logging.getLogger().info(f"resuming after {trainer.epochs_run} epochs")
    return trainer


def _refit(parts: Parts, folder: Path, n_epochs: int) -> None:
    """Train a fresh model on all rows, test included, and write it to ``refit.pth``, unless that is there already.

    ``n_epochs`` was chosen on validation, as nothing is left to choose it with. The sub-folder ``refit`` holds the
    checkpoints until the training ends; a killed one resumes from them.
    """
    scratch, path = folder / "refit", folder / folders.REFIT_FILE
    if on_first_process(path.exists):
        return
    on_first_process(lambda: scratch.mkdir(exist_ok=True))
    logging.getLogger().info(f"refit: a fresh model is trained on all rows, test included, for {n_epochs} epochs")
    train = train_loader(parts.config, parts.dataset.with_all_rows())
    whole = replace(parts, train=train, model=fresh_model(parts.config, train))
    _trainer(whole, scratch, n_epochs).fit(train)
    on_first_process(lambda: (scratch / folders.BEST_FILE).replace(path))
    on_first_process(lambda: shutil.rmtree(scratch))


class _LogFile(logging.FileHandler):
    """Writes run.log until the disk is full: no training should end for its log."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the file as it is, and say so."""
        logging.getLogger().removeHandler(self)
        logging.getLogger().warning(f"{self.baseFilename} is left out from here on: {sys.exception()}")

    def close(self) -> None:
        """Close the file, even where its last lines cannot be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: Path, state: str) -> Iterator[None]:
    """Send RecBole's log, the root logger's, to ``path`` and to the terminal while the block runs.

    Of several processes only the first writes; the others send their errors to the terminal.
    """
    root, is_first = logging.getLogger(), process_rank() == 0
    level = root.level
    handlers: dict[logging.Handler, str] = {logging.StreamHandler(): "%(message)s"}
    if is_first:
        handlers[_LogFile(path, encoding="utf-8")] = "%(asctime)s %(levelname)s %(message)s"
    for handler, form in handlers.items():
        handler.setFormatter(logging.Formatter(form))
        handler.addFilter(RemoveColorFilter())
        root.addHandler(handler)
    root.setLevel(str(state or "INFO").upper() if is_first else "ERROR")
    root.addFilter(readable_line)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeFilter(readable_line)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
