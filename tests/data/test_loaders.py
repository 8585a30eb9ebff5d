"""Samples come in the order of torch's own sampler, without a list of them."""

import torch
from torch.utils.data import RandomSampler

from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import TrainLoader, _Shuffled, build_loaders
from tests.conftest import BuildConfig, WriteDataset, random_rows


def test_two_epochs_are_shuffled_as_torch_shuffles_them() -> None:
    ours, theirs = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    n_samples = (1 << 16) + 10
    mine, torchs = _Shuffled(n_samples, ours), RandomSampler(range(n_samples), generator=theirs)
    assert len(mine) == n_samples
    for _ in range(2):
        assert list(mine) == list(torchs)
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_a_loader_walks_through_every_sample_once(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset(random_rows())
    for shuffle in (True, False):
        config = build_config("SASRec", train_batch_size=7, shuffle=shuffle)
        train, _, test = build_loaders(config, SessionDataset(config))
        assert isinstance(train, TrainLoader)
        assert isinstance(train.dataset, (range, SessionDataset))  # no list of numbers
        batches = list(train)
        assert len(batches) == len(train) == -(-train.sample_size // 7)
        targets = torch.cat([batch["item_id"] for batch in batches])
        expected = train._dataset.sequences.items[train._dataset.ends]
        assert torch.equal(targets, expected) is not shuffle
        assert torch.equal(targets.sort().values, expected.sort().values)
        assert sum(len(batch) for batch in test) == len(test._dataset)
