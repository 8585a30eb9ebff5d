"""Run folders: one per run, found again to be resumed, used by one process at a time."""

import errno
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_session.config.session_config import SessionConfig
from recbole_session.config.values import plain, read_yaml_file
from recbole_session.errors import InputError
from recbole_session.files import write_text
from recbole_session.run.schema import check_fields

CONFIG_FILE = "config.yaml"
RESULT_FILE = "result.json"
BEST_FILE = "best.pth"
LAST_FILE = "last.pth"
REFIT_FILE = "refit.pth"
VOCABULARY_FILE = "vocabulary.json"
CONTEXT_FILE = "context.json"
LOG_FILE = "run.log"
LOCK_FILE = ".lock"
# What the model knows about the next interaction when it is evaluated; see `audit`.
CONTEXTS = ("told", "inferred", "withheld")

# Keys that may differ when a run is resumed: they do not change its numbers.
FREE_KEYS = {
    "data_path", "checkpoint_dir", "checkpoint_interval", "config_files", "epochs", "eval_batch_size", "gpu_id",
    "log_mlflow", "log_wandb", "loss_decimal_place", "metric_decimal_place", "mlflow_experiment", "show_progress",
    "state", "stopping_step", "train_time_limit", "use_gpu", "wandb_project", "worker",
}  # fmt: skip


def ranks_file(context: str) -> str:
    """Name of the file of ranks in a context, one of `CONTEXTS`."""
    return "ranks.csv" if context == CONTEXTS[0] else f"ranks-{context}.csv"


AUDIT_FILES = (CONTEXT_FILE, *map(ranks_file, CONTEXTS[1:]))


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.yaml of a run: every key with the value that the run used.

    A file that is missing or damaged, or that names no model, dataset and seed, is an `InputError`.
    """
    values = read_yaml_file(folder / CONFIG_FILE)
    check_fields(folder / CONFIG_FILE, values, {"model": str, "dataset": str, "seed": int})
    return values


def open_run_folder(config: SessionConfig, resume: bool | str | Path = False) -> Path:
    """Find the folder of the run to be resumed, or make a new one and write config.yaml into it.

    A new one is ``<checkpoint_dir>/<dataset>/<model>-<date>-<time>``, with a number added where it exists already.
    """
    if resume:
        return _latest_unfinished_run(config) if resume is True else Path(resume)
    name = f"{config['model']}-{datetime.now():%Y%m%d-%H%M%S}"
    parent = Path(config["checkpoint_dir"], config["dataset"])
    try:
        parent.mkdir(parents=True, exist_ok=True)  # fails where it is a file, or a link that leads nowhere
        for number in count(1):
            folder = parent / (name if number == 1 else f"{name}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                break
    except OSError as error:
        raise InputError(f"checkpoint_dir: cannot make {error.filename}: {error.strerror}") from error
    write_text(folder / CONFIG_FILE, config.dump())
    return folder


def write_resumed_config(folder: Path, config: SessionConfig) -> None:
    """Write config.yaml again where a run is resumed with other keys of those that may differ, such as more epochs."""
    if (folder / CONFIG_FILE).read_text(encoding="utf-8") != config.dump():
        write_text(folder / CONFIG_FILE, config.dump())


def unfinished_run(folder: Path) -> Path:
    """Return ``folder`` if it holds a run that can be resumed, and raise `InputError` otherwise."""
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"resume is {str(folder)!r}; allowed: the folder of a run, which has a config.yaml")
    if (folder / RESULT_FILE).is_file():
        raise InputError(f"the run in {folder} is finished, see its result.json; leave --resume out to start a new one")
    return folder


def _latest_unfinished_run(config: SessionConfig) -> Path:
    """Return the latest unfinished run of this dataset, model and configuration under ``checkpoint_dir``."""
    parent = Path(config["checkpoint_dir"], config["dataset"])
    runs = [path.parent for path in parent.glob(f"*/{CONFIG_FILE}") if not (path.parent / RESULT_FILE).is_file()]
    same = [run for run in runs if not differing_keys(config.resolved, read_config(run))]
    if not same:
        raise InputError(
            f"{parent} holds no unfinished run of {config['model']} with these keys ({len(runs)} with others); "
            "leave --resume out to start one, or name its folder with --resume=RUN_FOLDER"
        )
    return max(same, key=lambda run: (run / CONFIG_FILE).stat().st_mtime_ns)


def differing_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Keys that both configurations have with different values, `FREE_KEYS` left out."""
    ours = plain(ours)  # tuples become lists, as in the file
    return [key for key in sorted(ours) if key in theirs and key not in FREE_KEYS and ours[key] != theirs[key]]


def check_same_configuration(ours: Mapping[str, Any], theirs: Mapping[str, Any], source: Path) -> None:
    """Refuse to resume with keys that would make it another run; ``theirs`` were read from ``source``."""
    for key in differing_keys(ours, theirs):
        raise InputError(
            f"{key} is {ours[key]!r}, but the run to be resumed has {theirs[key]!r} ({source}); "
            f"leave --{key} out, or start a new run"
        )


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a run folder while the block runs; the claim of a killed process ends with it.

    It is an `InputError` if another process has the folder (with ``wait``, the block then starts later), the folder
    cannot be written to, or something in it is a symbolic link.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise InputError(f"another process is running in {folder}; wait for it, or stop it, before --resume") from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise InputError(f"{folder} cannot be written to: {error.strerror}") from error
        logging.getLogger().warning(f"{folder} cannot be locked ({error.strerror}): start no second run in it")
    try:
        _tidy(folder)
        yield
    finally:
        lock.release()


def _tidy(folder: Path) -> None:
    """Refuse symbolic links and folders that cannot be written to, and remove what a killed process left."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link, which a run does not write through; remove it")
    try:
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        (folder / LOG_FILE).open("ab").close()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from error


def resume_command(folder: Path, n_processes: int) -> str:
    """Command line that resumes the run in ``folder``."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", n_processes))
    start = "python" if n_processes == 1 else f"torchrun --nproc_per_node={here}"
    start += "" if here == n_processes else " (and the options for several machines)"
    script = "run_recbole_session.py"
    program = script if Path(sys.argv[0]).name == script else "-m recbole_session train"
    return f"{start} {program} --resume={shlex.quote(str(folder))}"
