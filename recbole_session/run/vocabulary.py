"""What the model's internal numbers mean: raw ids and popularity, in a file of its own beside the weights.

With it, a trained model answers without its dataset. The file is JSON::

    {"items": ["242", ...], "item_counts": [117, ...], "users": ["196", ...]}

The first entry of a list has the internal id 1; 0 is padding everywhere.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from recbole_session.errors import InputError
from recbole_session.files import replacing
from recbole_session.run.folder import VOCABULARY_FILE
from recbole_session.run.schema import read_json


@dataclass(frozen=True)
class Vocabulary:
    """Raw ids in the order of their internal ids.

    Attributes
    ----------
    items : list of str
        Raw id of every item, from internal id 1.
    item_counts : list of int
        Rows of the dataset, all splits, that hold the item.
    users : list of str
        Raw id of every user, from internal id 1.
    """

    items: list[str]
    item_counts: list[int]
    users: list[str]

    @property
    def n_items(self) -> int:
        """Number of items, padding included, as RecBole counts."""
        return len(self.items) + 1

    @property
    def n_users(self) -> int:
        """Number of users, padding included."""
        return len(self.users) + 1


def dataset_vocabulary(dataset: Any) -> Vocabulary:
    """Return the vocabulary of a `SessionDataset` after its `build`."""
    counts = torch.bincount(dataset.sequences.items, minlength=dataset.item_num)
    items, users = (dataset.field2id_token[field][1:] for field in (dataset.iid_field, dataset.uid_field))
    return Vocabulary([str(item) for item in items], counts[1:].tolist(), [str(user) for user in users])


def write_vocabulary(run_folder: Path, dataset: Any) -> None:
    """Write the vocabulary of a built dataset into a run folder."""
    with replacing(run_folder / VOCABULARY_FILE) as temporary:
        text = json.dumps(asdict(dataset_vocabulary(dataset)), ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_vocabulary(run_folder: Path) -> Vocabulary:
    """Read the vocabulary of a run folder.

    Raises
    ------
    InputError
        If the file is missing, or is not what `write_vocabulary` writes.
    """
    path = run_folder / VOCABULARY_FILE
    content = read_json(path, dict.fromkeys(("items", "item_counts", "users"), list))
    vocabulary = Vocabulary(*(content[name] for name in ("items", "item_counts", "users")))
    for name in ("items", "users"):
        ids = content[name]
        if not all(isinstance(each, str) for each in ids) or len(set(ids)) < len(ids):
            raise InputError(f"{path} is damaged: {name} must hold different texts; train again")
    if not all(type(count) is int and 0 <= count < 2**53 for count in vocabulary.item_counts):
        raise InputError(f"{path} is damaged: item_counts must hold whole numbers from 0; train again")
    if len(vocabulary.items) != len(vocabulary.item_counts):
        raise InputError(f"{path} names {len(vocabulary.items)} items and {len(vocabulary.item_counts)} counts")
    return vocabulary
