"""What the model's internal ids mean: raw ids and popularity, in a file of its own beside the weights.

With it, a trained model answers without its dataset. The file is JSON::

    {"items": ["242", ...], "item_counts": [117, ...], "users": ["196", ...], "titles": ["Kolya", ...]}

The first entry of a list has the internal id 1; 0 is padding. ``titles`` is there if the dataset names items.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from recbole_session.files import write_text
from recbole_session.run.folder import VOCABULARY_FILE
from recbole_session.run.schema import check_fields, damaged, read_json


@dataclass(frozen=True)
class Vocabulary:
    """Raw ids of items and users, and the rows of the dataset (all splits) that hold each item, by internal id.

    ``titles`` are names of the items, empty where one has none; the list is empty if the dataset names no items.
    """

    items: list[str]
    item_counts: list[int]
    users: list[str]
    titles: list[str] = field(default_factory=list)

    def titles_of(self, items: Iterable[str]) -> dict[str, str]:
        """Names by raw id, of those among ``items`` that have one."""
        wanted = set(items)
        return {item: title for item, title in zip(self.items, self.titles, strict=False) if title and item in wanted}

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
    items, titles = [str(item) for item in dataset.field2id_token[dataset.iid_field][1:]], dataset.titles()
    content = {
        "items": items,
        "item_counts": torch.bincount(dataset.sequences.items, minlength=dataset.item_num)[1:].tolist(),
        "users": [str(user) for user in dataset.field2id_token[dataset.uid_field][1:]],
        **({"titles": [titles.get(item, "") for item in items]} if titles else {}),
    }
    write_text(run_folder / VOCABULARY_FILE, json.dumps(content, ensure_ascii=False) + "\n")


def read_vocabulary(run_folder: Path) -> Vocabulary:
    """Read the vocabulary of a run folder; an `InputError` if it is not what `write_vocabulary` writes."""
    path = run_folder / VOCABULARY_FILE
    content = read_json(path, dict.fromkeys(("items", "item_counts", "users"), list))
    check_fields(path, {"titles": [], **content}, {"titles": list})
    items, counts, users, titles = (content.get(name, []) for name in ("items", "item_counts", "users", "titles"))
    for name, ids in (("items", items), ("users", users)):
        if not all(isinstance(each, str) for each in ids) or len(set(ids)) < len(ids):
            raise damaged(path, f"{name} must be distinct texts")
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts):
        raise damaged(path, "item_counts must be whole numbers from 0")
    if len(items) != len(counts):
        raise damaged(path, f"it holds {len(items)} items and {len(counts)} counts")
    if not all(isinstance(title, str) for title in titles):
        raise damaged(path, "titles must be texts")
    if len(titles) not in (0, len(items)):
        raise damaged(path, f"it holds {len(items)} items and {len(titles)} titles")
    return Vocabulary(items, counts, users, titles)
