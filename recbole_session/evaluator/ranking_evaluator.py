"""One forward pass per batch; from it the target's rank in every candidate set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recbole_session.data.dataset import SessionDataset
from recbole_session.distributed import gather_rows, process_count
from recbole_session.errors import InputError
from recbole_session.evaluator.candidates import build_negatives
from recbole_session.evaluator.metrics import RankMetrics
from recbole_session.evaluator.ranking import rank_targets
from recbole_session.evaluator.scores import scores_of

USERS_AT_ONCE = 1 << 16  # whose negatives are checked


@dataclass(frozen=True)
class SplitRanks:
    """Ranks of a split, a row per target, ordered by user and time; by candidate set, see `ranking.rank_targets`."""

    users: Tensor  # int64 [n], internal ids
    items: Tensor  # int64 [n], the targets
    ranks: dict[str, Tensor]  # int64 [n] each
    n_candidates: dict[str, Tensor]  # int64 [n] each
    metrics: dict[str, dict[str, float]]  # by name

    def reordered(self, order: Tensor) -> "SplitRanks":
        """Return the same targets in another order, int64 ``[n]``."""
        ranks, counts = ({name: of[order] for name, of in each.items()} for each in (self.ranks, self.n_candidates))
        return SplitRanks(self.users[order], self.items[order], ranks, counts, self.metrics)


class RankingEvaluator:
    """Evaluates any model that has RecBole's ``full_sort_predict`` (or only ``predict``).

    Memory stays bounded as the number of items grows: a model that has ``score_factors`` is asked for these, and any
    other for the scores of as many rows at a time as fit, see `scores`.

    Reads the keys ``eval_candidates num_negatives negatives_seed metrics topk``; the dataset is built. ``negatives``
    are int32 or int64 ``[U, K]`` or None, by candidate set, see `candidates.build_negatives`.
    """

    def __init__(self, config: Any, dataset: SessionDataset) -> None:
        self.n_items = dataset.item_num
        self.user_field, self.item_field = dataset.uid_field, dataset.iid_field
        negatives = build_negatives(
            config["eval_candidates"],
            dataset.sequences,
            dataset.item_num,
            config["num_negatives"],
            config["negatives_seed"],
            dataset.field2token_id[dataset.uid_field],
            dataset.field2token_id[dataset.iid_field],
        )
        self.negatives = {name: None if array is None else torch.from_numpy(array) for name, array in negatives.items()}
        self.metrics = RankMetrics(config, dataset.item_num, dataset.training_items)
        self._check_candidates(dataset)

    @torch.no_grad()
    def evaluate(
        self, model: Any, batches: Iterable[Any], device: torch.device, candidate_sets: Sequence[str]
    ) -> SplitRanks:
        """Rank the targets of ``batches`` (Interactions) in each of ``candidate_sets``.

        A target that is among its own negatives (in a user's file) counts once, as the target.

        Raises
        ------
        InputError
            If there is no batch.
        """
        model.eval()
        for name in candidate_sets:
            if (table := self.negatives[name]) is not None:
                self.negatives[name] = table.to(device)  # where it stays
        widths = [2 + self._n_top_items(name) for name in candidate_sets]
        empty = torch.empty(0, 2 + sum(widths), dtype=torch.int64)
        parts = [self._rank_batch(model, batch, device, candidate_sets) for batch in batches]
        rows = gather_rows(torch.cat([empty, *parts]))
        # Process r ranked the samples r, r + n, r + 2 n, ...; put them back into their order.
        samples = [torch.arange(rank, len(rows), process_count()) for rank in range(process_count())]
        rows = rows[torch.cat(samples).argsort()]
        blocks = dict(zip(candidate_sets, rows[:, 2:].split(widths, dim=1), strict=True))
        ranks = {name: block[:, 0] for name, block in blocks.items()}
        counts = {name: block[:, 1] for name, block in blocks.items()}
        metrics = {
            name: self.metrics(ranks[name], counts[name], block[:, 2:] if self.metrics.needs_items else None)
            for name, block in blocks.items()
        }
        return SplitRanks(rows[:, 0], rows[:, 1], ranks, counts, metrics)

    def _rank_batch(self, model: Any, batch: Any, device: torch.device, candidate_sets: Sequence[str]) -> Tensor:
        """Return user and target, then rank, number of candidates and top items by set; int64 ``[B, columns]``."""
        batch = batch.to(device)
        k = self.metrics.max_k if self.metrics.needs_items else 0
        tables = [self.negatives[name] for name in candidate_sets]
        parts = []
        for rows, scores in scores_of(model, batch, self.n_items, self.item_field):
            users, targets = rows[self.user_field], rows[self.item_field]
            negatives = [None if table is None else table[users].long() for table in tables]
            found = rank_targets(scores, targets, negatives, k)
            parts.append(torch.cat([users.unsqueeze(1), targets.unsqueeze(1), *found], dim=1))
        return torch.cat(parts).cpu()

    def _n_top_items(self, name: str) -> int:
        """How many top items `rank_targets` gives for a candidate set; 0 where no metric needs them."""
        table = self.negatives[name]
        n_candidates = self.n_items - 1 if table is None else table.size(1) + 1
        return min(self.metrics.max_k, n_candidates) if self.metrics.needs_items else 0

    def _check_candidates(self, dataset: SessionDataset) -> None:
        """Refuse sets in which a test target has no rival, or too few to fill a list of ``topk`` items.

        A metric would then be won for nothing.
        """
        users, test_rows = dataset.samples["test"]
        if not len(users):
            raise InputError(
                f"dataset {dataset.dataset_name!r} has no row to test on under the split "
                f"{dataset.config['eval_args']['split']}; loosen the filters or change eval_args.split"
            )
        for name, table in self.negatives.items():
            smallest = self.n_items - 1
            if table is not None:
                smallest = 1 + min(
                    int(((table[some] != 0) & (table[some] != dataset.sequences.items[rows].unsqueeze(1))).sum(1).min())
                    for some, rows in zip(users.split(USERS_AT_ONCE), test_rows.split(USERS_AT_ONCE), strict=True)
                )
            if smallest < 2:
                raise InputError(
                    f"candidate set {name!r} has no negative for at least one user; leave it out or add some"
                )
            if self.metrics.needs_items and smallest < self.metrics.max_k:
                raise InputError(
                    f"topk is {self.metrics.max_k}, but candidate set {name!r} has only {smallest} candidates for at "
                    "least one user, too few for metrics of recommended items; lower topk or raise num_negatives"
                )
