"""What the model's internal ids mean: raw ids and popularity, in a file of its own beside the weights.

With it, a trained model answers without its dataset. The file is JSON::

    {"items": ["242", ...], "item_counts": [117, ...], "users": ["196", ...]}

The first entry of a list has the internal id 1; 0 is padding everywhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recbole_session.files import replacing
from recbole_session.run.folder import VOCABULARY_FILE
from recbole_session.run.schema import damaged, read_json


@dataclass(frozen=True)
class Vocabulary:
    """Raw ids of items and users, and the rows of the dataset (all splits) that hold each item, by internal id."""

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


def write_vocabulary(run_folder: Path, dataset: Any) -> None:
    """Write the vocabulary of a `SessionDataset` after its `build`."""
    content = {
        "items": [str(item) for item in dataset.field2id_token[dataset.iid_field][1:]],
        "item_counts": torch.bincount(dataset.sequences.items, minlength=dataset.item_num)[1:].tolist(),
        "users": [str(user) for user in dataset.field2id_token[dataset.uid_field][1:]],
    }
    with replacing(run_folder / VOCABULARY_FILE) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def read_vocabulary(run_folder: Path) -> Vocabulary:
    """Read the vocabulary of a run folder.

    Raises
    ------
    InputError
        If the file is missing, or is not what `write_vocabulary` writes.
    """
    path = run_folder / VOCABULARY_FILE
    content = read_json(path, dict.fromkeys(("items", "item_counts", "users"), list))
    items, counts, users = (content[name] for name in ("items", "item_counts", "users"))
    for name, ids in (("items", items), ("users", users)):
        if not all(isinstance(each, str) for each in ids) or len(set(ids)) < len(ids):
            raise damaged(path, f"{name} must be distinct texts")
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts):
        raise damaged(path, "item_counts must be whole numbers from 0")
    if len(items) != len(counts):
        raise damaged(path, f"it holds {len(items)} items and {len(counts)} counts")
    return Vocabulary(items, counts, users)
