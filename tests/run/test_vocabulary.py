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
        json.dumps({"items": ["a"], "item_counts": [1], "users": [], "titles": ["b", "c"]}): "1 items and 2 titles",
        json.dumps({"items": ["a"], "item_counts": [1], "users": [], "titles": [1]}): "titles must be texts",
        json.dumps({"items": ["a"], "item_counts": [1], "users": [], "titles": "b"}): "titles is 'b'",
    }.items():
        (tmp_path / "vocabulary.json").write_text(text)
        with pytest.raises(InputError, match=words):
            read_vocabulary(tmp_path)


def test_names_come_from_the_item_file(
    tmp_path: Path, write_dataset: WriteDataset, build_config: BuildConfig, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("u", item, time) for time, item in enumerate("xyzx")]
    items = write_dataset(rows).with_suffix(".item")
    for text, titles in {
        "item_id:token\tprice:float\tproduct_name:token_seq\ny\t2\tA  b\nq\t3\tC\nx\t4\t\n": ["", "A  b", ""],
        "item_id:token\tprice:float\ny\t2\n": [],
        "sku:token\ttitle:token\ny\tA\n": [],
        "item_id:token\ttitle:token\ny\tA\tB\n": [],
    }.items():
        items.write_text(text, encoding="utf-8")
        write_vocabulary(tmp_path, build_views(build_config())["test"])
        assert read_vocabulary(tmp_path).titles == titles
    assert "items have no names" in caplog.text
    assert "line 2 has 3 columns" in caplog.text
