"""Batches in pieces: every row once, every token of it, every chosen position in order."""

import pytest
import torch

from recbole_session.model import pieces as pieces_module
from recbole_session.model.pieces import places_of_true, plan_pieces


@pytest.mark.parametrize("lengths", [[1], [8], [8, 1, 3, 5], [2] * 40, [0, 4], [0], list(range(1, 9)) * 5])
def test_pieces_hold_every_row_once_and_all_its_tokens(lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "ROWS_AT_ONCE_ON_CPU", 3)
    n_chosen = [length // 2 for length in lengths]
    pieces = plan_pieces(torch.tensor(lengths), torch.tensor(n_chosen))
    assert sorted(row for piece in pieces for row in piece.rows.tolist()) == list(range(len(lengths)))
    for piece in pieces:
        rows = piece.rows.tolist()
        assert 1 <= len(rows) <= 3
        assert piece.length == max(1, *(lengths[row] for row in rows))
        assert piece.most_chosen == max(1, *(n_chosen[row] for row in rows))
        assert piece.n_chosen == sum(n_chosen[row] for row in rows)


def test_rows_of_similar_length_share_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "ROWS_AT_ONCE_ON_CPU", 2)
    lengths = torch.tensor([8, 1, 7, 2, 8, 1])
    pieces = plan_pieces(lengths, torch.ones_like(lengths))
    assert [piece.length for piece in pieces] == [1, 7, 8]


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(9, 7), (1, 1), (1, 30), (30,)])
def test_places_of_true_are_those_of_nonzero(ratio: float, shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < ratio
    most = int(mask.sum(-1).max())
    places = places_of_true(mask, max(most, 1))
    assert places.shape == (*shape[:-1], max(most, 1))
    for row, found in zip(mask.view(-1, shape[-1]), places.view(-1, places.size(-1)), strict=True):
        assert found[: int(row.sum())].tolist() == row.nonzero().flatten().tolist()
        assert len(set(found.tolist())) == len(found)
    assert places_of_true(mask, 0).shape == (*shape[:-1], 0)
