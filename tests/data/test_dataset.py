import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_session.data.dataset import SessionDataset
from recbole_session.errors import InputError
from tests.conftest import DAY, BuildConfig, WriteDataset, build_views, random_rows, shared_folder

MODELS = ["SessionBERT4Rec", "SASRec", "BERT4Rec", "GRU4Rec"]


def ids(view: SessionDataset, field: str, tokens: list[str]) -> list[int]:
    return [view.token2id(field, token) for token in tokens]


@pytest.mark.parametrize("model", MODELS)
def test_nothing_of_the_future_is_in_an_input(
    model: str, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    """Change every item at and after the target: no input of that sample may notice."""
    rows = random_rows(seed=1)
    write_dataset(rows)
    views = build_views(build_config(model, MAX_ITEM_LIST_LENGTH=6))
    for split in ("valid", "test"):
        view = views[split]
        index = torch.arange(len(view))
        before = view[index].interaction
        history = view.sequences.items.clone()
        future = torch.zeros(len(history), dtype=torch.bool)
        for user, end in zip(view.users.tolist(), view.ends.tolist(), strict=True):
            future[end : view.sequences.offsets[user + 1]] = True
        changed = torch.where(future, 1, history)
        object.__setattr__(view.sequences, "items", changed)
        view._prepare_tokens()
        after = view[index].interaction
        object.__setattr__(view.sequences, "items", history)
        view._prepare_tokens()
        assert not torch.equal(before["item_id"], after["item_id"])  # the targets did change
        for field in set(before) - {"item_id"}:
            assert torch.equal(before[field], after[field]), field


def test_masked_training_never_sees_validation_or_test_items(
    write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    rows = [(f"u{user}", f"u{user}-{place}", place) for user in range(5) for place in range(4 + user)]
    write_dataset(rows)
    view = build_views(build_config(MAX_ITEM_LIST_LENGTH=20))["train"]
    seen = set(view[torch.arange(len(view))]["item_seq"].flatten().tolist())
    held_out = {token for user in range(5) for token in (f"u{user}-{2 + user}", f"u{user}-{3 + user}")}
    names = {view.id2token("item_id", item) for item in seen if 0 < item < view.item_num}
    assert names == {item for _, item, _ in rows} - held_out


@pytest.mark.parametrize("model", MODELS)
def test_targets_and_histories_follow_exact_time(
    model: str, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    # Seconds within one float32 step, newest first in the file.
    base = 978_300_770
    rows = [("u", f"i{place}", base + place) for place in range(9, -1, -1)]
    assert len({np.float32(time) for _, _, time in rows}) == 1
    write_dataset(rows)
    test = build_views(build_config(model, MAX_ITEM_LIST_LENGTH=16))["test"]
    batch = test[torch.tensor([0])]
    assert test.id2token("item_id", batch["item_id"].numpy()).tolist() == ["i9"]
    field = "item_seq" if model == "SessionBERT4Rec" else "item_id_list"
    history = [item for item in batch[field][0].tolist() if 0 < item < test.item_num]
    assert test.id2token("item_id", history).tolist() == [f"i{place}" for place in range(9)]


@pytest.mark.parametrize(
    ("split", "train", "valid", "test"),
    [
        ({"LS": "valid_and_test"}, "bcd", "e", "f"),
        ({"SS": "valid_and_test"}, "b", "cd", "ef"),
        ({"TS": [3, 5]}, "bc", "de", "f"),
    ],
    ids=["LS", "SS", "TS"],
)
@pytest.mark.parametrize("model", ["SASRec", "SessionBERT4Rec"])
def test_the_views_have_the_targets_of_the_split(
    model: str, split: dict[str, object], train: str, valid: str, test: str,
    write_dataset: WriteDataset, build_config: BuildConfig,
) -> None:  # fmt: skip
    """One user, a row a second, sessions ``ab cd ef``; of a session-aware model's training the last row is named."""
    write_dataset([("u", item, time, time // 2) for time, item in enumerate("abcdef")])
    views = build_views(build_config(model, eval_args={"split": split}))
    names = views["train"].field2id_token["item_id"]
    found = {name: "".join(names[view.sequences.items[view.ends]]) for name, view in views.items()}
    assert found == {"train": train if model == "SASRec" else train[-1], "valid": valid, "test": test}


def test_a_split_by_time_names_what_training_knows_nothing_of(
    write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    """Training ends before second 10; the test begins at 20. Of eight test targets two are x and one is y."""
    rows = [("old", "a", 1), ("old", "b", 2), ("old", "x", 21), ("old", "a", 22)]
    rows += [(user, item, time) for user in ("n1", "n2", "n3", "n4") for item, time in (("y", 11), ("b", 23))]
    rows += [("n1", "x", 24), ("n2", "y", 25)]
    write_dataset(rows)
    split = {"TS": [10, 20]}
    assert build_views(build_config(eval_args={"split": split}))["train"].unknown_to_training() == [
        f"split {split}: users who begin after the training period: 4 (n1, n2, n3, ...); the first interaction of each "
        "is not a target",
        f"split {split}: 3 of 8 test targets are items of which training has no row",
    ]
    assert build_views(build_config())["train"].unknown_to_training() == []


def test_prefix_samples_equal_recboles_own(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    """Row for row what RecBole's augmentation stores, on times that float32 holds exactly."""
    from recbole.data.dataset import SequentialDataset

    rows = [(user, item, (time - 900_000_000) % 10_000_000) for user, item, time in random_rows(n_users=9, seed=3)]
    write_dataset(rows)
    config = build_config("SASRec", MAX_ITEM_LIST_LENGTH=5, load_col={"inter": ["user_id", "item_id", "timestamp"]})
    stock = SequentialDataset(config)
    stock._fill_nan = lambda: None
    for ours, theirs in zip(SessionDataset(config).build(), stock.build(), strict=True):
        mine = ours[torch.arange(len(ours))]

        def table(batch: object) -> list[tuple[object, ...]]:
            fields = ["user_id", "item_id", "timestamp", "item_length", "item_id_list", "timestamp_list"]
            columns = [batch[field].long().tolist() for field in fields]  # type: ignore[index]
            return sorted(tuple(map(str, row)) for row in zip(*columns, strict=True))

        assert table(mine) == table(theirs.inter_feat)


def test_sessions_are_derived_where_the_file_has_none(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    times = [0, 10, 10 + DAY, 11 + 2 * DAY, 12 + 2 * DAY]
    rows = [("u", f"i{place}", time) for place, time in enumerate(times)]
    write_dataset(rows)
    view = build_views(build_config())["test"]
    assert view.sequences.starts_session().tolist() == [True, False, False, True, False]
    write_dataset([(*row, session) for row, session in zip(rows, "aabbc", strict=True)])
    view = build_views(build_config())["test"]
    assert view.sequences.starts_session().tolist() == [True, False, True, False, True]
    assert build_views(build_config(session_gap=5))["test"].sequences.starts_session().sum() == 3


def test_no_prefix_is_stored(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    """Memory of a view grows with rows, not with rows times length."""
    write_dataset([("u", f"i{place % 50}", place) for place in range(3000)])
    view = build_views(build_config("SASRec", MAX_ITEM_LIST_LENGTH=500))["train"]
    tensors = [*vars(view).values(), *vars(view.sequences).values(), *view.inter_feat.interaction.values()]
    assert max(value.numel() for value in tensors if isinstance(value, torch.Tensor)) <= 3000
    assert view[torch.arange(4)]["item_id_list"].shape == (4, 500)


HEADER = "user_id:token\titem_id:token\ttimestamp:float"


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("user_id\titem_id\ttimestamp", [("u", "i", 1)], "line 1: column 'user_id' is not written name:type"),
        ("user_id:token\titem_id:tokn\ttimestamp:float", [("u", "i", 1)], "line 1: column 'item_id:tokn'"),
        ("user_id:token\titem_id:token", [("u", "i")], "has no column 'timestamp'"),
        ("user_id:token\titem_id:token", [("u", "i", 1)], "no column 'timestamp'"),
        (HEADER, [("u", "i", 1, 9)], "line 2 has 4 columns; the header names 3"),
        (HEADER, [("u", "i", 1), ("u", "j", 2, 9), ("u", "k", 3)], "line 3 has 4 columns; the header names 3"),
        (HEADER, [("u", "i", 1), ("u", "j", 2), ("u", 3)], "line 4 has 2 columns; the header names 3"),
        (HEADER, [("u", "i", 1), ("u", 2), ("u", "k", 3, 4)], "line 3 has 2 columns; the header names 3"),
        (HEADER, [("u", "i", 1), ("",), ("u", "k", 3)], "line 3 has 1 columns; the header names 3"),
        (HEADER, [("u", "i", 1), ("u", "a\rb", 2)], "line 3 holds '\\r' within a value"),
        (HEADER, [("u", "i", 1), ("u", "a\0b", 2)], "line 3 holds '\\x00' within a value"),
        (HEADER, [("u", "i", 1), ("u", "j", "9" * 5000)], "line 3: timestamp is beyond 1e+11"),
        (HEADER, [("u", "i", 1), ("u", "j", "")], "line 3: timestamp is missing"),
        ("user_id:token\titem_id:token\ttimestamp:token", [("u", "i", 1)], "is of type token; write timestamp:float"),
        ("user_id:float\titem_id:token\ttimestamp:float", [(1, "i", 1)], "is of type float; write user_id:token"),
        ("user_id:token\tuser_id:token\ttimestamp:float", [("u", "i", 1)], "column 'user_id' is there twice"),
        (HEADER, [("u", "i", 1), ("u", "j", "soon")], "line 3: timestamp is 'soon'; it must be a number"),
        (HEADER, [("u", "i", 978_300_760_000)], "write seconds, not milliseconds"),
        (HEADER, [], "no rows left"),
        (HEADER, [("u", "i", 1), ("v", "j", 2)], "no user with two interactions"),
        ("", [], "is empty"),
    ],
)
def test_a_broken_file_is_one_sentence(
    header: str,
    rows: list[tuple[object, ...]],
    words: str,
    write_dataset: WriteDataset,
    build_config: BuildConfig,
) -> None:
    path = write_dataset(rows, header=header)
    if not header:
        path.write_text("")
    with pytest.raises(InputError) as error:
        SessionDataset(build_config()).build()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_ids_that_pandas_takes_for_missing_are_kept(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    items = ["NA", "null", "None", '"quoted', "nan"]
    write_dataset([("NaN", item, place) for place, item in enumerate(items)])
    view = build_views(build_config())["test"]
    assert view.id2token("item_id", view.sequences.items.numpy()).tolist() == items


def test_rows_without_a_user_or_an_item_are_left_out(
    write_dataset: WriteDataset, build_config: BuildConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """RecBole leaves the wrong rows out where both are missing somewhere."""
    rows = random_rows(n_users=4, n_items=9)
    write_dataset(rows)
    expected = SessionDataset(build_config())
    write_dataset([rows[0], ("", "i1", 5), *rows[1:3], ("u1", "", 6), *rows[3:], ("", "i2", 7)])
    dataset = SessionDataset(build_config())
    assert dataset.inter_feat.equals(expected.inter_feat)
    assert f"toy.inter: user_id is missing in 2 of {len(rows) + 3} rows (left out; the first is line 3)" in caplog.text
    assert f"toy.inter: item_id is missing in 1 of {len(rows) + 1} rows (left out; the first is line 6)" in caplog.text


def test_a_missing_dataset_names_the_command_that_makes_it(build_config: BuildConfig) -> None:
    with pytest.raises(InputError, match="recbole-session convert"):
        SessionDataset(build_config(dataset="ml-1m"))


def test_a_mistyped_dataset_points_to_the_nearest(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset([("u", "i", 1)], name="clicks")
    with pytest.raises(InputError, match="did you mean 'clicks'"):
        SessionDataset(build_config(dataset="clisk"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n\n"])
def test_byte_order_marks_line_ends_and_blank_lines_at_the_end_change_nothing(
    encoding: str, line_end: str, tail: str, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    path = write_dataset([("ü", "i", 1), ("ü", " j", 2), ("ü", "k ", 3)])
    text = path.read_text(encoding="utf-8").rstrip("\n") + tail
    path.write_bytes(text.replace("\n", line_end).encode(encoding))
    keys = {} if encoding.startswith("utf-8") else {"encoding": encoding}
    view = build_views(build_config(**keys))["test"]
    assert view.id2token("item_id", view.sequences.items.numpy()).tolist() == ["i", " j", "k "]
    assert view.id2token("user_id", [1]).tolist() == ["ü"]


def test_a_file_in_another_encoding_is_refused(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    path = write_dataset([("u", "i", 1)])
    path.write_bytes(path.read_bytes() + b"\xff\xfe\t1\t2\n")
    with pytest.raises(InputError, match="cannot be read: not utf-8-sig text"):
        SessionDataset(build_config())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"unload_col": {"inter": ["item_id"]}}, "unload_col names 'item_id', which is needed"),
        ({"unload_col": {"inter": ["price"]}}, "has no column 'price'"),
        ({"val_interval": {"price": "[1,2]"}}, "has no column 'price'"),
        ({"val_interval": {"timestamp": ["1"]}}, "val_interval of 'timestamp' is ['1']; allowed: an interval such as"),
        ({"val_interval": {"item_id": "[1,2]"}}, "val_interval of 'item_id' is '[1,2]'; allowed: a list of tokens"),
    ],
)
def test_keys_that_do_not_fit_the_columns_are_one_sentence(
    keys: dict[str, object], words: str, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    write_dataset([("u", "i", 1), ("u", "j", 2), ("u", "k", 3)])
    with pytest.raises(InputError) as error:
        SessionDataset(build_config(**keys))
    assert words in str(error.value)


def test_rows_are_chosen_by_the_values_of_any_column(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    header = "user_id:token\titem_id:token\ttimestamp:float\tprice:float"
    write_dataset([("u", item, place, place) for place, item in enumerate("abcdef")], header=header)
    dataset = SessionDataset(build_config(val_interval={"price": "(0,4]", "item_id": ["a", "b", "d", "e"]}))
    assert dataset.id2token("item_id", dataset.inter_feat["item_id"].to_numpy()).tolist() == ["b", "d", "e"]


def test_unknown_load_col_is_refused(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset([("u", "i", 1)])
    with pytest.raises(InputError, match="no column 'rating'"):
        SessionDataset(build_config(load_col={"inter": ["user_id", "item_id", "timestamp", "rating"]}))


def test_filters_are_recboles(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 1)]
    write_dataset(rows)
    dataset = SessionDataset(build_config(user_inter_num_interval="[2,inf)"))
    assert dataset.user_num - 1 == 1


@pytest.fixture(scope="module")
def ml_1m_part() -> pd.DataFrame:
    path = shared_folder() / "data" / "ml-1m-part" / "ratings.dat.gz"
    if not path.is_file():
        pytest.skip("the shared ML-1M rows are not beside this checkout")
    with gzip.open(path, "rt") as file:
        text = file.read().replace("::", "\t")
    lines = [line.split("\t") for line in text.splitlines()]
    return pd.DataFrame(lines, columns=["user_id", "item_id", "rating", "timestamp"])


@pytest.mark.parametrize("model", ["SessionBERT4Rec", "SASRec"])
def test_ml_1m_test_item_is_the_latest_row(
    model: str, ml_1m_part: pd.DataFrame, tmp_path: Path, build_config: BuildConfig
) -> None:
    """In the published order of rows, for every user; equal times: the latest in the file."""
    path = tmp_path / "data" / "toy" / "toy.inter"
    path.parent.mkdir(parents=True)
    kinds = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
    frame = ml_1m_part.rename(columns={name: f"{name}:{kind}" for name, kind in kinds.items()})
    frame.to_csv(path, sep="\t", index=False)
    view = build_views(build_config(model))["test"]
    batch = view[torch.arange(len(view))]
    ours = dict(
        zip(
            view.id2token("user_id", batch["user_id"].numpy()),
            view.id2token("item_id", batch["item_id"].numpy()),
            strict=True,
        )
    )
    latest: dict[str, tuple[int, str]] = {}
    for user, item, time in zip(
        ml_1m_part["user_id"], ml_1m_part["item_id"], ml_1m_part["timestamp"].astype(int), strict=True
    ):
        if user not in latest or time >= latest[user][0]:
            latest[user] = (time, item)
    assert len(ours) == 2999
    assert ours == {user: item for user, (_, item) in latest.items()}


@pytest.mark.parametrize("keys", [{}, {"session_features": []}, {"worker": 2}])
def test_batches_are_cut_where_the_model_trains(
    keys: dict[str, object], write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    """The meta device stands for a GPU: its tensors have shapes and no values, and do not mix with the CPU's."""
    write_dataset(random_rows(seed=3))
    for split, here in build_views(build_config(**keys)).items():
        config = build_config(**keys)
        config["device"] = torch.device("meta")
        there = build_views(config)[split]
        expected, found = here[torch.arange(3)], there[torch.arange(3)]
        for name in expected.interaction:
            assert found[name].shape == expected[name].shape
            assert found[name].device.type == ("cpu" if "worker" in keys else "meta")


@pytest.mark.parametrize("model", ["BERT4Rec", "SASRec"])
def test_recboles_models_keep_their_batches_on_the_cpu(
    model: str, write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    """There RecBole masks items and draws negatives."""
    write_dataset(random_rows(seed=3))
    config = build_config(model)
    config["device"] = torch.device("meta")
    view = build_views(config)["train"]
    assert {values.device.type for values in view[torch.arange(3)].interaction.values()} == {"cpu"}


@pytest.mark.parametrize("keys", [{}, {"rm_dup_inter": "first"}])
def test_equal_times_keep_the_order_of_the_file(
    keys: dict[str, str], write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    rows = [(f"u{user}", f"i{(7 * n + user) % 200}", DAY * (n % 3)) for n in range(200) for user in range(5)]
    write_dataset(rows)
    view = build_views(build_config(**keys))["test"]
    expected = [item for _, item, _ in sorted(rows, key=lambda row: (row[0], row[2]))]  # Python's sort is stable
    assert view.id2token("item_id", view.sequences.items.numpy()).tolist() == expected


def test_of_rows_of_one_user_and_item_the_first_or_the_last_stays(
    write_dataset: WriteDataset, build_config: BuildConfig
) -> None:
    write_dataset([("a", "x", 1), ("a", "y", 4), ("a", "z", 3), ("a", "x", 5), ("a", "w", 2)])
    for keep, expected in {"first": ["x", "w", "z", "y"], "last": ["w", "z", "y", "x"]}.items():
        view = build_views(build_config(rm_dup_inter=keep))["test"]
        assert view.id2token("item_id", view.sequences.items.numpy()).tolist() == expected


def test_fractions_of_a_second_order_the_rows(write_dataset: WriteDataset, build_config: BuildConfig) -> None:
    write_dataset([("a", "x", 5.2), ("a", "z", 5.9), ("b", "x", 7.5), ("a", "y", 5.5), ("b", "z", 7.25), ("a", "w", 6)])
    view = build_views(build_config())["test"]
    assert view.id2token("item_id", view.sequences.items.numpy()).tolist() == ["x", "y", "z", "w", "z", "x"]
    assert view.sequences.times.tolist() == [5, 5, 5, 6, 7, 7]
