"""``recbole-session convert``: what it prints, and every bad input as one sentence with nothing written."""

import gzip
import json
import zipfile

import pytest

from recbole_session.converters import convert
from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.datasets import DATASETS
from recbole_session.converters.preprocessing import Thresholds
from recbole_session.errors import InputError
from tests.converters.reference_converter import numbered_within_user, prepare, read_inter

GOOD = "".join(f"{user}::{item}::5::{978300000 + 100_000 * item}\n" for user in (1, 2) for item in range(1, 1001))
LOOSE = ("--min_rows_per_session", "1", "--min_item_rows", "1")


@pytest.fixture
def dat(tmp_path):
    def write(content):
        path = tmp_path / "ratings.dat"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_conversion_and_its_card(cli, dat, tmp_path):
    lines = GOOD.splitlines(keepends=True)
    lines[4] = "damaged\n"
    path = dat("".join(lines))
    code, output, errors = cli("convert", "ml-1m", "--raw", path, "--max_rows_per_user", "3", *LOOSE)
    assert code == 0
    assert errors == "line 5 left out: found 1 fields, expected 4, in 'damaged'\n"
    assert "read                         1,999           2       1,000" in output
    header, rows = read_inter(tmp_path / "atomic_data" / "ml-1m" / "ml-1m.inter")
    assert header == [
        "user_id:token", "item_id:token", "rating:float", "timestamp:float", "session_id:token"
    ]  # fmt: skip
    assert [row[1] for row in rows] == ["998", "999", "1000"] * 2
    card = json.loads((tmp_path / "atomic_data" / "ml-1m" / "dataset.json").read_text())
    assert card["lines"]["malformed"] == 1
    assert card["lines"]["good"] == 1999
    assert card["options"]["max_rows_per_user"] == 3
    assert card["counts"][-1] == {"step": "sessions", "rows": 6, "users": 2, "items": 3}
    assert set(card["versions"]) == {"recbole_session", "python", "duckdb"}


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "steam"])
def test_every_dataset_against_the_slow_reference(name, tmp_path):
    """A small file in each dataset's own shape, through its own defaults."""
    rows = [
        (str(user), str(item * 7), 3.0 + (user + item) % 3, 1_000_000_000 + (visit * 3 + user % 2) * 86_400)
        for user in range(1, 12)
        for visit in range(1 + user % 4)
        for item in range(visit % 2 + user % 3, 5)
    ]
    layout = DATASETS[name].layout
    if layout is None:
        rows = [(user, item, 1.0, time - time % 86_400) for user, item, _, time in rows]
        from datetime import UTC, datetime

        text = "".join(
            f"{{u'username': u'{user}', u'date': u'{datetime.fromtimestamp(time, UTC):%Y-%m-%d}', "
            f"u'text': u'{{\\'}}', u'product_id': u'{item}'}}\n"
            for user, item, _, time in rows
        )
    else:
        mark = layout.delimiter
        text = "".join(mark.join(map(str, row)) + "\n" for row in rows)
        text = (layout.headers[0] + "\n" if layout.headers else "") + text
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/{DATASETS[name].files[0]}", text)
    thresholds = DATASETS[name].thresholds
    everybody = Thresholds(thresholds.min_rating, min_user_rows=1, min_sessions=1, min_rows_per_session=1)
    for all_users in (True, False):
        written = convert(name, path, tmp_path, all_users=all_users)
        expected = prepare(rows, everybody if all_users else thresholds)
        assert numbered_within_user(read_inter(written)[1]) == expected
        assert len(expected) > 10
    default = run_conversion(name, path, tmp_path).card["options"]
    assert (default["min_sessions"] == 1) == (name == "ml-100k")


def test_ml_1m_part_against_the_slow_reference(ml_1m_part, tmp_path):
    rows = []
    for line in gzip.decompress(ml_1m_part.read_bytes()).decode().splitlines():
        user, item, rating, time = line.split("::")
        rows.append((user, item, float(rating), int(time)))
    written = convert("ml-1m", ml_1m_part, tmp_path)
    assert numbered_within_user(read_inter(written)[1]) == prepare(rows, DATASETS["ml-1m"].thresholds)


def test_generic_from_the_command_line(cli, tmp_path):
    (tmp_path / "x.tsv").write_text("who\twhat\twhen\nb\t1\t2017-01-01\na\t2\t2017-01-02\n")
    flags = (
        "--user_col",
        "who",
        "--item_col",
        "what",
        "--time_col",
        "when",
        "--time_unit",
        "iso",
        "--dataset",
        "mine",
        "--all_users",
        "--min_item_rows",
        "1",
        "--delimiter",
    )
    code, _, errors = cli("convert", "generic", "--raw", tmp_path / "x.tsv", *flags, "tab")
    assert (code, errors) == (0, "")
    _, rows = read_inter(tmp_path / "atomic_data" / "mine" / "mine.inter")
    assert rows == [["b", "1", "1.0", "1483228800", "1"], ["a", "2", "1.0", "1483315200", "2"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "ratings.dat is empty"),
        ("\n\n", "fields"),
        (GOOD.replace("::", ","), "separated by '::'"),
        (GOOD.replace("::", "\t"), "separated by '::'"),
        ("UserID::MovieID::Rating::Timestamp\n" + GOOD, "a header, but this dataset's file has none"),
        ("1::Toy Story (1995)::Animation|Children's|Comedy\n" * 9, "must have 4 fields"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "must have 4 fields"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (GOOD.replace("978", "-978"), "timestamp '-978400000' is not a non-negative whole number"),
        (GOOD.replace("::978", "::978000"), "is after the year 2100"),
        (
            GOOD + "x\n" * 3,
            "3 of 2,003 lines are malformed, more than 0.1% (the first is line 2001: found 1 fields",
        ),
        (GOOD.replace("::5::", "::0.5::"), "none is left after the step 'min_rating'; lower --min_rating"),
        (GOOD[:190], "none is left after the step 'min_item_rows'; lower --min_item_rows."),
        (b"\x1f\x8b" + b"x" * 50, "cannot be read"),
        (gzip.compress(GOOD.encode())[:-20], "cannot be read"),
        (b"PK\x03\x04" + b"x" * 50, "cannot be read"),
    ],
)
def test_bad_files(refused, dat, content, message):
    assert message in refused("convert", "ml-1m", "--raw", dat(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,3.5,1000\n", "must be the header 'userId,movieId,rating,timestamp'"),
        ("userId,movieId,timestamp\n1,2,1000\n", "must be the header"),
        ("userId;movieId;rating;timestamp\n1;2;3.5;1000\n", "must be the header"),
        ("userId,movieId,rating,timestamp\n", "holds no rows"),
        ("userId,movieId,rating,timestamp\n1,2,5,1000\n", "none is left after the step 'min_item_rows'"),
        (
            "userId,movieId,rating,timestamp\n" + "".join(f"{user},2,5,1000\n" for user in range(5)),
            "none is left after the step 'min_user_rows'; lower --min_user_rows, or keep everybody by --all_users.",
        ),
    ],
)
def test_bad_csv_files(refused, dat, content, message):
    assert message in refused("convert", "ml-20m", "--raw", dat(content))


def test_bad_steam_files(refused, dat):
    assert "a Steam review begins with '{'" in refused("convert", "steam", "--raw", dat(GOOD))
    assert "line 1: not a literal" in refused("convert", "steam", "--raw", dat('{"username": true}\n'))


def test_strict_and_skip_bad(cli, refused, dat, tmp_path):
    path = dat(GOOD[:-1] + "::\nx\n\xff\n")
    assert "line 2000: found 5 fields" in refused("convert", "ml-1m", "--raw", path, "--strict")
    assert "3 of 2,002 lines" in refused("convert", "ml-1m", "--raw", path)
    code, _, errors = cli("convert", "ml-1m", "--raw", path, "--skip_bad", *LOOSE)
    assert code == 0
    assert errors.count("left out") == 3
    header = dat("UserID::MovieID::Rating::Timestamp\n" + GOOD)
    assert cli("convert", "ml-1m", "--raw", header, "--skip_bad", *LOOSE)[0] == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ml-1m"], "needs --raw PATH"),
        (["ml-1m", "--raw", "nowhere.zip"], "--raw nowhere.zip does not exist"),
        (["ml-1m", "--raw", "x", "--download"], "contradict"),
        (["ml-1m", "--raw", "x", "--min_item_rows", "0"], "--min_item_rows is 0"),
        (["ml-1m", "--raw", "x", "--min_rating", "nan"], "--min_rating is nan"),
        (["ml-1m", "--raw", "x", "--dataset", "../evil"], "--dataset is '../evil'"),
        (["ml-1m", "--raw", "x", "--user_col", "u"], "convert generic"),
        (["generic", "--raw", "x", "--user_col", "u"], "--item_col and --time_col"),
        (["generic", "--raw", "x", "--user_col", "u", "--item_col", "i", "--time_col", "t"], "--dataset"),
        (["generic", "--download", "--dataset", "d", "--user_col", "u", "--item_col", "i", "--time_col", "t"],
         "no generic dataset"),
    ],
)  # fmt: skip
def test_bad_flags(refused, argv, message):
    assert message in refused("convert", *argv)


def test_argparse_refuses_with_2_too(cli):
    for argv in (
        ["ml-2m"],
        ["ml-1m", "--min_sessions", "two"],
        ["ml-1m", "--strict", "--skip_bad"],
        ["ml-1m", "--x"],
    ):
        assert cli("convert", *argv)[0] == 2


def test_bad_calls():
    for keywords, message in (({"minimum": 1}, "no option 'minimum'"), ({"engine": "x"}, "--engine is 'x'")):
        with pytest.raises(InputError, match=message):
            convert("ml-100k", None, "unused", **keywords)
    with pytest.raises(InputError, match="no dataset is called 'ml-2m'"):
        convert("ml-2m", None, "unused")


def test_a_failed_conversion_keeps_the_old_dataset(cli, dat, tmp_path):
    assert cli("convert", "ml-1m", "--raw", dat(GOOD), *LOOSE)[0] == 0
    folder = tmp_path / "atomic_data" / "ml-1m"
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert cli("convert", "ml-1m", "--raw", dat(GOOD + "x\n" * 99), *LOOSE)[0] == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    assert [path.name for path in folder.parent.iterdir()] == ["ml-1m"]


def test_a_dry_run_shows_and_writes_nothing(cli, tmp_path):
    for day in "12":
        text = f"who,what,when\nb,1,2017-01-0{day} 10:00:00 UTC\nb,2,2017-01-0{day}\n"
        (tmp_path / f"{day}.csv").write_text(text)
    columns = ("--user_col", "who", "--item_col", "what", "--time_col", "when", "--time_unit", "iso", "--dataset", "d")
    flags = ("generic", "--raw", tmp_path / "[12].csv", *columns, "--session_gap", "40000")
    code, output, errors = cli("convert", *flags, "--dry_run")
    assert (code, errors) == (0, "")
    shown = [line.split() for line in output.splitlines()]
    assert shown[1] == ["b", "1", "1.0", "1483264800", "2017-01-01", "10:00:00"]
    # 0 h, 10 h (1 session), 24 h (50,400 s later, another), 34 h
    assert output.splitlines()[-1] == "4 rows, 2 sessions; nothing was written"
    assert not (tmp_path / "atomic_data").exists()
