"""What a session-aware model gives to the rest of the package.

A new model is one Python file in this folder and one YAML file with its defaults, see ``docs/extending.md``. The
trainer asks for `calculate_loss`, the evaluator and the ONNX export for `score_factors`, several processes for
`draw_task` and `loss_terms`, and ``explain`` for `attention`.
"""

from typing import Any

import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor


class SessionModel(SequentialRecommender):
    """Base of the session-aware models.

    A batch is an `Interaction` with ``item_seq``, ``session_seq`` and ``time_seq``, int64 ``[B, L]``: tokens, session
    numbers and seconds (Unix UTC), the most recent token in the last column, padding (token 0) before the first. At
    inference the last column is the mask token, with the session and the time of the item to be predicted; the time
    is `data.batches.UNKNOWN_TIME` where it is not known. ``extra_tokens`` counts the columns of a batch beyond
    ``MAX_ITEM_LIST_LENGTH``.
    """

    input_type = InputType.POINTWISE
    batch_layout = "tokens"
    extra_tokens = 0

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean loss over the `loss_terms` of a training batch, 0 where it has none; a scalar."""
        raise NotImplementedError

    def score_factors(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Factors of the scores of all items, ``states @ weight.T + bias``; row 0 of the items is padding.

        They are ``[B, d]``, ``[n_items, d]`` and ``[n_items]``.
        """
        raise NotImplementedError

    def draw_task(self, interaction: Any) -> dict[str, Tensor]:
        """Random columns ``[B, L]`` of a training batch, such as what is masked.

        Several processes draw them once for the whole batch, add them to it, and then share it out. `calculate_loss`
        keeps the columns that a batch has and draws those that it lacks.
        """
        return {}

    def loss_terms(self, interaction: Any) -> int:
        """Number of terms that `calculate_loss` averages over, after `draw_task`."""
        return len(interaction)

    def attention(self, interaction: Any) -> Tensor | None:
        """Attention that the predicted position pays to each column of a batch, ``[B, L]``, or None."""
        return None

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for the item to be predicted, ``[B, n_items]``; column 0 is padding."""
        return F.linear(*self.score_factors(interaction))

    def predict(self, interaction: Any) -> Tensor:
        """Scores of one item per sequence, ``interaction[ITEM_ID_FIELD]`` ``[B]`` -> ``[B]``."""
        items = interaction[self.ITEM_ID]
        return self.full_sort_predict(interaction).gather(1, items.unsqueeze(1)).squeeze(1)


def loss_terms(model: Any, interaction: Any) -> int:
    """Number of terms that the loss of a batch averages over, for any model."""
    if isinstance(model, SessionModel):
        return model.loss_terms(interaction)
    if "MASK_INDEX" in interaction:  # RecBole's BERT4Rec, which leaves masks at index 0 out of its loss
        return int((interaction["MASK_INDEX"] > 0).sum())
    return len(interaction)
