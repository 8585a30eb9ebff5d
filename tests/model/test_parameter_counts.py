"""Every row of the paper's Table 2."""

import pytest

from recbole_session.config.session_config import SessionConfig
from recbole_session.model import SessionBERT4Rec, SessionSASRec

PAPER = {"hidden_size": 256, "n_layers": 4, "inner_size": 1024}
DATASETS = {
    "steam": {"items": 4331, "L": 15, "n_heads": 2, "m": 5, "d_T": 32},
    "ml-1m": {"items": 3327, "L": 200, "n_heads": 2, "m": 3, "d_T": 16},
    "ml-20m": {"items": 12239, "L": 100, "n_heads": 4, "m": 5, "d_T": 64},
}
TABLE_2 = {
    (): (5_385_708, 4_918_016, 9_464_272),
    ("ST",): (5_385_964, 4_918_272, 9_464_528),
    ("SSE",): (5_386_988, 4_918_784, 9_465_552),
    ("TSA",): (5_389_996, 4_919_136, 9_481_040),
    ("ST", "SSE"): (5_387_244, 4_919_040, 9_465_808),
    ("ST", "TSA"): (5_390_252, 4_919_392, 9_481_296),
    ("SSE", "TSA"): (5_391_276, 4_919_904, 9_482_320),
    ("ST", "SSE", "TSA"): (5_391_532, 4_920_160, 9_482_576),
}
CASES = [
    (features, dataset, count)
    for features, counts in TABLE_2.items()
    for dataset, count in zip(DATASETS, counts, strict=True)
]


class Catalogue:
    """All that the model asks of a dataset."""

    def __init__(self, items: int) -> None:
        self.items = items

    def num(self, field: str) -> int:
        return self.items + 1  # the padding


def n_parameters(kind: type, features: tuple[str, ...], dataset: str) -> int:
    facts = DATASETS[dataset]
    keys = {
        **PAPER,
        "session_features": list(features),
        "MAX_ITEM_LIST_LENGTH": facts["L"],
        "n_heads": facts["n_heads"],
        "max_session_segments": facts["m"],
        "temporal_dim": facts["d_T"],
        "tie_embeddings": False,
        "gated_layers": False,
    }
    model = kind(SessionConfig(kind, dataset, config_dict=keys), Catalogue(facts["items"]))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("features", "dataset", "count"), CASES)
def test_bert4rec_rows(features: tuple[str, ...], dataset: str, count: int) -> None:
    assert n_parameters(SessionBERT4Rec, features, dataset) == count


@pytest.mark.parametrize(("dataset", "count"), [*zip(DATASETS, TABLE_2[()], strict=True)])
def test_sasrec_rows(dataset: str, count: int) -> None:
    """The paper's SASRec is the same encoder with a causal mask, and has plain BERT4Rec's parameters."""
    assert n_parameters(SessionSASRec, (), dataset) == count
