"""Samples come in the order of torch's own sampler, without a list of them."""

import pytest
import torch
from torch.utils.data import RandomSampler

from recbole_session.data.dataset import SessionDataset
from recbole_session.data.loaders import TrainLoader, _Shuffled, build_loaders
from recbole_session.data.splits import drawn_ends
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


@pytest.mark.parametrize("worker", [0, 1])
def test_every_epoch_draws_its_windows(worker: int, write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    """An epoch's inputs are the rows up to ends that the loader's generator draws, with and without workers."""
    write_dataset(random_rows())
    config = build_config("SessionSASRec", window_stride=0.6, shuffle=False, worker=worker, MAX_ITEM_LIST_LENGTH=5)
    train, _, _ = build_loaders(config, SessionDataset(config))
    view, sequences = train._dataset, train._dataset.sequences
    epochs = []
    for _ in range(2):
        generator = torch.Generator()
        generator.set_state(train.generator.get_state())
        ends = drawn_ends(sequences, (view.users, view.window_ends), 3, generator)
        batches = list(train)
        rows = torch.cat([batch["item_seq"] for batch in batches])
        assert torch.equal(rows[:, -1], sequences.items[ends])
        assert torch.equal(rows[:, -2], sequences.items[ends - 1])
        epochs.append(ends)
    assert not torch.equal(*epochs)
    assert (view.window_ends >= epochs[1]).all()
