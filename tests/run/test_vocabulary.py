import json
from pathlib import Path

import pytest

from recbole_session.errors import InputError
from recbole_session.run.vocabulary import Vocabulary, read_vocabulary, write_vocabulary
from tests.conftest import BuildConfig, WriteDataset, build_views


def test_ids_and_counts_in_the_order_of_the_internal_ids(
    tmp_path: Path, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    rows = [("ü", "x", 1), ("ü", "y", 2), ("ü", "x", 3), ("v", "y", 4), ("v", "NA", 5), ("v", "y", 6)]
    write_dataset(rows)
    dataset = build_views(build_config())["test"]
    write_vocabulary(tmp_path, dataset)
    vocabulary = read_vocabulary(tmp_path)
    assert vocabulary == Vocabulary(["x", "y", "NA"], [2, 3, 1], ["ü", "v"])
    assert (vocabulary.n_items, vocabulary.n_users) == (dataset.item_num, dataset.user_num) == (4, 3)
    assert [dataset.token2id("item_id", item) for item in vocabulary.items] == [1, 2, 3]


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocabulary.json cannot be read: No such file.*train again"):
        read_vocabulary(tmp_path)
    for text, words in {
        "{": "damaged",
        '{"items": []}': "damaged",
        json.dumps({"items": ["a"], "item_counts": [], "users": []}): "1 items and 0 counts",
        r'{"items": ["\ud800"], "item_counts": [1], "users": []}': "damaged.*surrogates not allowed",
    }.items():
        (tmp_path / "vocabulary.json").write_text(text)
        with pytest.raises(InputError, match=words):
            read_vocabulary(tmp_path)
