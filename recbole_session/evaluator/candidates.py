"""Candidate sets: against which items each user's target is ranked.

Negatives depend on the dataset and on ``negatives_seed`` alone. They are drawn once, for all users together,
and serve every model, split, epoch and batch size.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from recbole_session.data.sequences import UserSequences
from recbole_session.errors import InputError

Ints = NDArray[np.int64]
LARGEST = 10**9  # negatives of all users: 4 GB
ROWS_AT_ONCE = 1 << 20  # about, of users whose negatives are found together


def build_negatives(
    entries: Sequence[str],
    sequences: UserSequences,
    n_items: int,
    num_negatives: int,
    seed: int,
    user_ids: Mapping[str, int],
    item_ids: Mapping[str, int],
) -> dict[str, NDArray[Any] | None]:
    """Negatives by candidate set: int32 ``[U, K]`` with 0 where a user has fewer than ``K``, or None for ``all``.

    Parameters
    ----------
    entries : sequence of str
        ``random``, ``popular``, ``all``, or paths of CSV files (see `read_negatives`), whose stem names the set.
    n_items : int
        Number of items, padding included.
    num_negatives : int
        Negatives per user of ``random`` and ``popular``; fewer where the catalogue has no more.
    user_ids, item_ids : Mapping
        Internal ids by raw id.
    """
    num_negatives = min(num_negatives, n_items - 1)
    if num_negatives * sequences.n_users > LARGEST:
        raise InputError(
            f"num_negatives is {num_negatives:,} for {sequences.n_users:,} users; allowed: at most "
            f"{LARGEST // sequences.n_users:,}, or eval_candidates=[all]"
        )
    negatives: dict[str, NDArray[Any] | None] = {}
    for entry in entries:
        if entry == "all":
            negatives[entry] = None
        elif entry in ("random", "popular"):
            negatives[entry] = np.empty((sequences.n_users, num_negatives), dtype=np.int32)
        else:
            negatives[Path(entry).stem] = read_negatives(Path(entry), sequences.n_users, user_ids, item_ids)
    order = by_popularity(sequences.items.numpy(), n_items)

    def fill(users: range) -> None:
        history, rows = item_history(sequences, n_items, users), slice(users.start, users.stop)
        if (table := negatives.get("random")) is not None:
            table[rows] = random_negatives(history, n_items, num_negatives, seed, users.start, sequences.n_users)
        if (table := negatives.get("popular")) is not None:
            table[rows] = popular_negatives(history, order, num_negatives)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy lets go of the interpreter
        list(pool.map(fill, _users_at_once(sequences, num_negatives)))
    return negatives


def _users_at_once(sequences: UserSequences, num_negatives: int) -> Iterator[range]:
    """Ranges of users with about `ROWS_AT_ONCE` rows or negatives each, or of single users."""
    sizes = (sequences.lengths + num_negatives).cumsum(0).numpy()
    first = 0
    while first < len(sizes):
        before = sizes[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(sizes, before + ROWS_AT_ONCE, side="right")))
        yield range(first, stop)
        first = stop


def item_history(sequences: UserSequences, n_items: int, chosen: range) -> tuple[Ints, Ints]:
    """Distinct items of the users in ``chosen``: ``(offsets [U + 1], items [H])``, int64 both.

    The items of the ``u``-th user are ``items[offsets[u]:offsets[u + 1]]``, ascending.
    """
    offsets = sequences.offsets[chosen.start : chosen.stop + 1].numpy()
    users = np.repeat(np.arange(len(chosen)), np.diff(offsets))
    pairs = np.sort(users * n_items + sequences.items[offsets[0] : offsets[-1]].numpy())
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique of numpy 2.4 takes twenty times as long
    return np.searchsorted(pairs, np.arange(len(chosen) + 1) * n_items), pairs % n_items


def random_negatives(
    history: tuple[Ints, Ints], n_items: int, num_negatives: int, seed: int, first: int, n_all_users: int
) -> Ints:
    """Uniform negatives outside the user's history, none twice: int64 ``[U, num_negatives]``, 0 for none left.

    Floyd's algorithm draws the subset for all users at once (Bentley and Floyd, "A sample of brilliance",
    CACM 30(9), 1987). The users from number ``first`` on get what they would get among all ``n_all_users``, as the
    generator steps over what is drawn for the others.
    """
    bits = np.random.PCG64(seed)  # of `default_rng`
    generator = np.random.Generator(bits)
    outside = (n_items - 1) - np.diff(history[0])  # [U] items a user never met
    n_users = len(outside)
    bits.advance(first)
    places = np.full((num_negatives, n_users), -1, dtype=np.int64)
    for column in range(num_negatives):
        highest = outside - num_negatives + column  # last place that may be drawn in this round
        # Where the catalogue has too few items, the first rounds draw nothing and the others take every place.
        drawn = np.floor(generator.random(n_users) * (highest + 1)).astype(np.int64)
        bits.advance(n_all_users - n_users)  # a number each
        taken = (places[:column] == drawn).any(axis=0)
        places[column] = np.where(highest < 0, -1, np.where(taken, highest, drawn))
    return _items_outside(history, places.T, order=np.arange(1, n_items))


def by_popularity(items: Ints, n_items: int) -> Ints:
    """All items by the number of their rows in ``items``, most first; ties go to the smaller id."""
    return np.argsort(-np.bincount(items, minlength=n_items)[1:], kind="stable") + 1


def popular_negatives(history: tuple[Ints, Ints], order: Ints, num_negatives: int) -> Ints:
    """Return the first items of ``order`` outside the user's history; shape as `random_negatives`."""
    n_items = len(order) + 1
    outside = (n_items - 1) - np.diff(history[0])
    places = np.broadcast_to(np.arange(num_negatives), (len(outside), num_negatives))
    return _items_outside(history, np.where(places < outside[:, None], places, -1), order)


def _items_outside(history: tuple[Ints, Ints], places: Ints, order: Ints) -> Ints:
    """Items at ``places`` (from 0) of the catalogue in ``order`` after each user's history is taken out.

    A place ``p`` of the thinned catalogue is place ``p + k`` of the whole one, where ``k`` counts the history
    items before it. If the history holds places ``h_0 < h_1 < ...``, then ``k`` counts the ``i`` with
    ``h_i - i <= p``. All users are searched at once in a sorted array. Place -1 gives item 0.
    """
    offsets, items = history
    users = np.repeat(np.arange(len(places)), np.diff(offsets))
    n_items = len(order) + 1
    place_of = np.empty(n_items, dtype=np.int64)
    place_of[order] = np.arange(len(order))
    keys = np.sort(users * n_items + place_of[items])
    index_within_user = np.arange(len(keys)) - offsets[users]
    thinned = keys - index_within_user  # h_i - i, still sorted, and apart from user to user
    wanted = np.arange(len(places))[:, None] * n_items + places
    before = np.searchsorted(thinned, wanted, side="right") - offsets[:-1, None]
    return np.where(places < 0, 0, order[np.minimum(places + before, len(order) - 1)])


def read_negatives(path: Path, n_users: int, user_ids: Mapping[str, int], item_ids: Mapping[str, int]) -> Ints:
    """Read the negatives of a CSV file with header ``user_id,item_id`` and a row per negative, int64 ``[U, K]``."""
    frame = _read_pairs(path)
    ids = pd.DataFrame({"user_id": frame["user_id"].map(user_ids), "item_id": frame["item_id"].map(item_ids)}).fillna(0)
    for name in ids:
        for line in ids.index[ids[name] == 0]:
            raise InputError(f"negatives file {path}, line {line}: {name} {frame[name][line]!r} is not in the dataset")
    for line in frame.index[frame.duplicated()]:
        raise InputError(f"negatives file {path}, line {line} repeats an earlier one")
    users, items = ids.astype(np.int64).sort_values("user_id", kind="stable").to_numpy().T
    column = np.arange(len(users)) - np.searchsorted(users, users)
    negatives = np.zeros((n_users, int(column.max(initial=-1)) + 1), dtype=np.int64)
    negatives[users, column] = items
    return negatives


def _read_pairs(path: Path) -> pd.DataFrame:
    """Read columns ``user_id`` and ``item_id`` as text, indexed by line number."""
    names = ["user_id", "item_id"]
    try:
        # The header is read as a line like the others: pandas would shift the columns of a line that is too wide.
        frame = pd.read_csv(
            path,
            header=None,
            names=[*names, "more"],
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"negatives file {path} cannot be read: {' '.join(str(error).split())}") from error
    if frame.empty:
        raise InputError(f"negatives file {path} cannot be read: it is empty")
    frame.index += 1
    header = ",".join(frame.iloc[0].dropna())
    if header != ",".join(names):
        raise InputError(f"negatives file {path}, line 1 is {header!r}; it must be 'user_id,item_id'")
    for line in frame.index[frame["more"].notna()]:
        raise InputError(f"negatives file {path}, line {line} has more than two columns")
    return frame.iloc[1:][names].dropna(how="all").fillna("")
