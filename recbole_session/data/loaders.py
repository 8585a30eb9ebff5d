"""Loaders: RecBole's for training, made independent of `worker`, and one that walks a split once, in order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader, TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.transform import Equal, MaskItemSequence, construct_transform
from recbole.sampler import RepeatableSampler
from torch.utils.data import DataLoader, Sampler

from recbole_session.data.dataset import SessionDataset
from recbole_session.distributed import process_count, process_rank


class _Shuffled(Sampler[int]):
    """Sample numbers in the order of torch's `RandomSampler`, which makes a list: 4 GB for a hundred million."""

    def __init__(self, n_samples: int, generator: torch.Generator) -> None:
        self.n_samples, self.generator = n_samples, generator

    def __iter__(self) -> Iterator[int]:
        for some in torch.randperm(self.n_samples, generator=self.generator).split(1 << 16):
            yield from some.tolist()
        # So does `RandomSampler`, for a remainder that is empty; what follows from the generator stays the same.
        torch.randperm(self.n_samples, generator=self.generator)

    def __len__(self) -> int:
        return self.n_samples


class _RangeLoader(DataLoader[Any]):
    """Torch's loader as RecBole's loaders build it, but over a range in place of their list of sample numbers."""

    _dataset: SessionDataset

    def __init__(self, *_: Any, shuffle: bool, generator: Any = None, **options: Any) -> None:
        numbers = range(len(self._dataset))
        self.sample_size = len(numbers)
        options["dataset"] = numbers
        options["sampler"] = _Shuffled(len(numbers), generator) if shuffle else None
        super().__init__(generator=generator, **options)


class TrainLoader(TrainDataLoader, _RangeLoader):
    """RecBole's training batches, with everything random drawn in the process that trains.

    RecBole masks and draws negatives where a batch is collated: with ``worker`` > 0 in other processes, each with
    a random state of its own that no checkpoint reaches. Here workers only cut the batches.
    """

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        self.sample_size = 0  # for the list that `_RangeLoader` does without

    def collate_fn(self, index: list[int]) -> Interaction:
        """Cut one batch."""
        return self._dataset[np.array(index)]

    def __iter__(self) -> Any:
        """Draw the windows of an epoch; mask, or add negatives to, every batch in order."""
        self._dataset.draw_windows(self.generator)
        for batch in super().__iter__():
            yield self._neg_sampling(self.transform(self._dataset, batch))


def evaluation_transform(config: Any) -> Any:
    """What RecBole does to a batch before the model sees it, without the masking that is for training.

    BERT4Rec puts its mask in by itself at inference; masking at random here would be ignored, slow, and would
    move the random state on. Building RecBole's transform also adds keys to ``config`` that its BERT4Rec reads.
    """
    transform = construct_transform(config)
    return Equal(config) if isinstance(transform, MaskItemSequence) else transform


class EvaluationLoader(AbstractDataLoader):
    """Batches of ``eval_batch_size`` samples, each sample once and in order, as `Interaction`.

    Of ``n`` processes, process ``r`` walks through samples ``r``, ``r + n``, ``r + 2 n``, ...
    """

    transform: Any

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["eval_batch_size"]
        self.set_batch_size(self.step)

    def __init__(self, config: Any, dataset: SessionDataset) -> None:
        self.rank, self.count = process_rank(), process_count()
        self.sample_size = len(range(self.rank, len(dataset), self.count))
        super().__init__(config, dataset, sampler=None, shuffle=False)
        self.transform = evaluation_transform(config)

    def collate_fn(self, index: list[int]) -> Interaction:
        """Cut one batch."""
        return self.transform(self._dataset, self._dataset[np.array(index) * self.count + self.rank])

    def __bool__(self) -> bool:
        """Whether the split has samples; the same answer in every process, those without a share included."""
        return len(self._dataset) > 0


def build_loaders(config: Any, dataset: SessionDataset) -> tuple[TrainLoader, EvaluationLoader, EvaluationLoader]:
    """Split ``dataset`` and return the loaders for training, validation and testing.

    Call it before the model is built: RecBole's masking transform adds keys to ``config`` that its BERT4Rec
    reads.
    """
    train, valid, test = dataset.build()
    return train_loader(config, train), EvaluationLoader(config, valid), EvaluationLoader(config, test)


def train_loader(config: Any, view: SessionDataset) -> TrainLoader:
    """Return the loader of a view for training; see `build_loaders` for when to call it."""
    negatives, sampler = config["train_neg_sample_args"], None
    if negatives["distribution"] != "none":
        sampler = RepeatableSampler(["train"], view, negatives["distribution"], negatives["alpha"]).set_phase("train")
    return TrainLoader(config, view, sampler, shuffle=config["shuffle"])
