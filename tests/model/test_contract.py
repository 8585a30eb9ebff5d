import torch
from recbole.data.interaction import Interaction

from recbole_session.model.contract import loss_terms
from tests.conftest import BuildConfig
from tests.model.test_session_bert4rec import build_model, random_batch


def test_terms_of_recboles_models_are_rows_or_masks() -> None:
    batch = {"item_seq": torch.ones(2, 3)}
    assert loss_terms(None, Interaction(batch)) == 2
    assert loss_terms(None, Interaction({**batch, "MASK_INDEX": torch.tensor([[0, 2], [1, 3]])})) == 3


def test_terms_of_a_masked_model_are_its_chosen_items(build_config: BuildConfig) -> None:
    model = build_model(build_config, mask_ratio=0.5)
    batch = random_batch([8, 3], 8)
    chosen = torch.zeros(2, 8, dtype=torch.bool)
    chosen[0, 5:] = True
    assert loss_terms(model, {**batch, "chosen": chosen}) == 3
