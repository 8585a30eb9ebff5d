"""The half of peers.py that runs in an environment with RecTools, without this project; peers.py starts it.

    python benchmarks/peers_rectools.py FOLDER SASRec --seconds 400 --max_length 200 --n_items 3100 --every 2 --out FILE

``FOLDER`` holds ``train.csv``, ``valid.csv`` and ``test.csv`` (user, item, timestamp in Unix seconds, each user's rows
in order) and ``negatives.npy`` (``[2, U, K]`` items by number of the user, random ones and popular ones). The model
trains on ``train.csv`` with one thread. Every so many epochs the clock stops, and a line of JSON goes to ``FILE``: the
epochs, the CPU seconds of training, and the rank of every user's target in ``valid.csv`` (after ``train.csv``) and in
``test.csv`` (after both) among all items, and of the latter also among the negatives.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rectools
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.dataset.context import get_context
from rectools.models import BERT4RecModel, HSTUModel, SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

MODELS: dict[str, tuple[type, dict[str, Any]]] = {
    "SASRec": (SASRecModel, {}),
    "BERT4Rec": (BERT4RecModel, {}),
    "eSASRec": (SASRecModel, {"transformer_layers_type": LiGRLayers}),
    # 0.05 is the temperature of RecTools' own HSTU tutorial; with the default, 1, cosines hardly become probabilities.
    "HSTU": (HSTUModel, {"lightning_module_kwargs": {"logits_t": 0.05}}),
}
USERS_AT_ONCE = 2000
COMMON = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "loss": "softmax", "lr": 0.003, "batch_size": 64}


class Watch(Callback):
    """Counts the CPU seconds of the epochs and evaluates every so many of them, until the time is over."""

    def __init__(self, model: Any, splits: dict[str, pd.DataFrame], arguments: argparse.Namespace) -> None:
        self.model, self.splits, self.arguments = model, splits, arguments
        self.negatives = np.load(arguments.folder / "negatives.npy")
        self.seconds = self.start = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Watch":
        """Stay one object: RecTools copies the trainer before it trains, and the model would come along."""
        return self

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock."""
        self.start = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop the clock; evaluate if it is time."""
        self.seconds += time.process_time() - self.start
        epochs = trainer.current_epoch + 1
        trainer.should_stop = self.seconds >= self.arguments.seconds
        if epochs % self.arguments.every == 0 or trainer.should_stop:
            self.model.is_fitted = True  # or it refuses to recommend
            train, valid, test = (self.splits[split] for split in ("train", "valid", "test"))
            n_items, ranks = self.arguments.n_items, {}
            (ranks["valid"],) = target_ranks(self.model, train, valid, n_items, self.negatives[:0])
            history = pd.concat([train, valid], ignore_index=True)
            found = target_ranks(self.model, history, test, n_items, self.negatives)
            ranks["test"], ranks["random"], ranks["popular"] = found
            with self.arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"epochs": epochs, "seconds": self.seconds, **ranks}) + "\n")
            module.train()


def target_ranks(
    model: Any, history: pd.DataFrame, targets: pd.DataFrame, n_items: int, negatives: NDArray[Any]
) -> list[list[int]]:
    """Ranks of the targets, from 1, in their order: among all items, then among each set of ``negatives [S, U, K]``.

    Equal scores count as better, and items that the model does not know lose.
    """
    dataset = Dataset.construct(history)
    parts = []
    for first in range(0, len(targets), USERS_AT_ONCE):
        some = targets.iloc[first : first + USERS_AT_ONCE]
        users = some["user_id"].to_numpy()
        context = get_context(some) if model.require_recommend_context else None
        found = model.recommend(users, dataset, n_items, False, add_rank_col=False, context=context)
        scores = np.full((len(users), n_items + 1), -np.inf)
        scores[pd.Index(users).get_indexer(found["user_id"]), found["item_id"]] = found["score"]
        rows = np.arange(len(users))[:, None]
        own = scores[rows, some[["item_id"]].to_numpy()]
        sets = [(scores[:, 1:] >= own).sum(1)]
        parts.append(sets + [1 + (scores[rows, of_set[users]] >= own).sum(1) for of_set in negatives])
    return [np.concatenate(of_set).tolist() for of_set in zip(*parts, strict=True)]


def read_rows(path: Path) -> pd.DataFrame:
    rows = pd.read_csv(path).rename(columns={"user": "user_id", "item": "item_id"})
    return rows.assign(datetime=pd.to_datetime(rows.pop("timestamp"), unit="s"), weight=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--max_length", type=int, required=True)
    parser.add_argument("--n_items", type=int, required=True)
    parser.add_argument("--every", type=int, default=2, help="epochs between two evaluations")
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    seed_everything(arguments.seed)
    print(f"{arguments.model}: RecTools {rectools.__version__}, torch {torch.__version__}", flush=True)
    splits = {split: read_rows(arguments.folder / f"{split}.csv") for split in ("train", "valid", "test")}
    model_class, keys = MODELS[arguments.model]
    model = model_class(session_max_len=arguments.max_length, **COMMON, **keys)
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    watch = Watch(model, splits, arguments)
    model._trainer = Trainer(
        max_epochs=10**6, devices=1, accelerator="cpu", callbacks=[watch], **dict.fromkeys(silent, False)
    )
    model.fit(Dataset.construct(splits["train"]))


if __name__ == "__main__":
    main()
