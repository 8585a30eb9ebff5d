"""One run of a comparison, in a process of its own."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_session.errors import InputError
from recbole_session.run.folder import claimed
from recbole_session.run.training import run_session

WAIT_SECONDS = 1.0


def run_one(dataset: str, keys: Mapping[str, Any], folder: str | None, audit: bool) -> tuple[str, str | None]:
    """Make or finish a run, and audit its context.

    Parameters
    ----------
    dataset : str
    keys : Mapping
        With ``model`` and ``seed``.
    folder : str or None
        Of the run to go on with, or of a finished one whose audit is missing; None for a new one.
    audit : bool
        Whether to evaluate without the context that the model is told, see `run.audit`.

    Returns
    -------
    tuple of (str, str or None)
        The run folder, and why the audit failed.
    """
    if folder is not None:
        wait_until_free(Path(folder))
    if folder is None or not (Path(folder) / "result.json").is_file():
        folder = run_session(None, dataset, config_dict=keys, resume=Path(folder) if folder else False)["run_folder"]
    failure = None
    if audit:
        from recbole_session.run.audit import audit_run

        try:
            audit_run(Path(folder))  # does nothing where it is done already
        except Exception as error:  # the run itself is finished, whatever happens here
            traceback.print_exc()
            failure = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return folder, failure


def wait_until_free(folder: Path) -> None:
    """Wait for another process that is running in ``folder``, such as the last run of a comparison just killed."""
    told = False
    while True:
        try:
            with claimed(folder):
                return
        except InputError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
        if not told:
            logging.getLogger(__name__).warning(f"waiting for another process that is running in {folder}")
            told = True
        time.sleep(WAIT_SECONDS)
