"""`refit: True`: a model for use, trained on all rows, those of validation and test included."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from recbole_session.data.loaders import train_loader
from recbole_session.distributed import on_first_process
from recbole_session.run.build import Parts, fresh_model
from recbole_session.run.folder import BEST_FILE, REFIT_FILE


def refit(parts: Parts, folder: Path, n_epochs: int, show_progress: bool = False) -> None:
    """Train a fresh model on all rows and write it to ``refit.pth``, unless that is there already.

    Parameters
    ----------
    parts : Parts
        Of the run.
    folder : Path
        Of the run. Its sub-folder ``refit`` holds the checkpoints while the training lasts, which resumes from them.
    n_epochs : int
        How many epochs, as chosen on validation: nothing is left to choose one with.
    show_progress : bool
    """
    logger, scratch, path = logging.getLogger(), folder / "refit", folder / REFIT_FILE
    if on_first_process(path.exists):
        return
    on_first_process(lambda: scratch.mkdir(exist_ok=True))
    logger.info(f"refit: a fresh model is trained on all rows, test included, for {n_epochs} epochs")
    train = train_loader(parts.config, parts.dataset.with_all_rows())
    whole = replace(parts, train=train, model=fresh_model(parts.config, train))
    state = on_first_process(lambda: whole.saved_state(scratch))
    trainer = whole.trainer(scratch, n_epochs)
    if state is not None:
        trainer.go_on_from(state, train)
        logger.info(f"refit: resuming after {trainer.epochs_run} epochs")
    trainer.fit(train, show_progress=show_progress)
    on_first_process(lambda: (scratch / BEST_FILE).replace(path))
    on_first_process(lambda: shutil.rmtree(scratch))
