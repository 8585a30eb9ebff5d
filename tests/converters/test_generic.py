"""Anyone's file: three formats, three ways to write a time, and what does not read."""

import json
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_session.converters.columns import MACROS, SECONDS, Columns, seconds_of
from recbole_session.converters.conversion import run_conversion
from recbole_session.converters.generic import GenericReader
from recbole_session.converters.sources import Source
from recbole_session.errors import InputError

NOON = int(datetime(2017, 12, 31, 12, tzinfo=UTC).timestamp())


@pytest.fixture
def read(load):
    def read_file(path, policy="skip", **columns):
        delimiter = "\t" if path.suffix == ".tsv" else ","
        given_columns = Columns(**{"user": "who", "item": "what", "time": "when", "delimiter": delimiter, **columns})
        loaded = load(lambda check: GenericReader(Source(path), given_columns), path, policy)
        return loaded.columns, loaded.bad

    return read_file


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet"])
def three_rows(request, tmp_path):
    """Return the same three rows in every format."""
    rows = [("a b", "1", NOON, 3.5), ("é", 'x"y', NOON + 1, 1.0), ("a b", "2", NOON + 2, 5.0)]
    path = tmp_path / f"log.{request.param}"
    if request.param == "parquet":
        pa = pytest.importorskip("pyarrow", exc_type=ImportError)
        import pyarrow.parquet as pq

        names = ["other", "who", "what", "when", "score"]
        columns = [[None] * 3, *map(list, zip(*rows, strict=True))]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    elif request.param == "jsonl":
        lines = [json.dumps({"when": t, "what": i, "who": u, "score": r, "other": {}}) for u, i, t, r in rows]
        path.write_text("\n".join(lines))
    else:
        mark = "," if request.param == "csv" else "\t"
        quoted = [[u, '"{}"'.format(i.replace('"', '""')), str(t), str(r)] for u, i, t, r in rows]
        lines = [mark.join(("z", *row)) for row in (["who", "what", "when", "score"], *quoted)]
        path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


def test_the_same_rows_from_every_format(read, three_rows):
    columns, bad = read(three_rows, rating="score")
    assert bad == []
    assert columns[:4] == [
        ["a b", "é", "a b"],
        ["1", "x%22y", "2"],
        [3.5, 1.0, 5.0],
        [NOON, NOON + 1, NOON + 2],
    ]


def test_own_sessions_and_a_condition(read, three_rows):
    columns, bad = read(three_rows, session="what", where="who <> 'é' OR score = '9'")
    assert bad == []
    assert (columns[0], columns[5]) == (["a b", "a b"], ["1", "2"])


def test_a_condition_that_is_not_sql(read, three_rows):
    for wrong in ("nothing = 1", "who =", "1) FROM x; --"):
        with pytest.raises(InputError, match="--where"):
            read(three_rows, where=wrong)


def test_a_long_list_in_a_condition_keeps_the_order(tmp_path):
    """DuckDB makes a join of such a list, which mixes rows up when several threads read."""
    n = 400_000
    (tmp_path / "x.csv").write_text("u,i,t,e,x\n" + "".join(f"{k},i,{k},e{k % 9},{'x' * 150}\n" for k in range(n)))
    where = "e IN (" + ", ".join(f"'e{k}'" for k in range(9)) + ")"
    written = run_conversion(
        "generic",
        tmp_path / "x.csv",
        tmp_path,
        dataset="d",
        all_users=True,
        columns=Columns("u", "i", "t", where=where),
    ).path
    users = [int(line.split("\t")[0]) for line in written.read_text().splitlines()[1:]]
    assert users == list(range(n))


def test_without_a_rating_column_every_row_has_1(read, three_rows):
    columns, _ = read(three_rows)
    assert columns[2] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("unit", "values", "seconds"),
    [
        ("s", ["1514721600", " 7 ", "7.9", 7, 7.9, "1e3"], [1514721600, 7, 7.9, 7, 7.9, 1000]),
        ("s", ["x", "", "nan", "inf", None, True, [], "1 2", "0x10"], [None] * 9),
        ("ms", ["1514721600123", 999, "-1"], [1514721600.123, 0.999, -0.001]),
        (
            "iso",
            ["2017-12-31", "2017-12-31T12:00", "2017-12-31 12:00:00Z", "2017-12-31 12:00:00 UTC"],
            [NOON - 43200, NOON, NOON, NOON],
        ),
        ("iso", ["2017-12-31T12:00:00+02:00", "2017-12-31T12:00:00-0530"], [NOON - 7200, NOON + 19800]),
        (
            "iso",
            ["now", "today", "2017", "2017-02-30", "31.12.2017", "", "NaT", None, 5, "9999-99-99"],
            [None] * 10,
        ),
    ],
)
def test_times(unit, values, seconds):
    assert [seconds_of(value, unit) for value in values] == seconds
    texts = [value for value in values if isinstance(value, str)]
    expected = [second for second, value in zip(seconds, values, strict=True) if isinstance(value, str)]
    assert in_duckdb(texts, unit) == expected


def in_duckdb(texts, unit):
    with duckdb.connect() as connection:
        for macro in MACROS[1:4]:
            connection.execute(macro)
        select = f"SELECT {SECONDS[unit]} FROM (SELECT unnest(?) AS time, unnest(range(?)) AS n)"
        seconds = connection.execute(f"{select} ORDER BY n", [texts, len(texts)]).fetchall()
    return [None if second is None or abs(second) == float("inf") else second for (second,) in seconds]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.datetimes(
            datetime(1970, 1, 3),
            datetime(2099, 12, 31),
            timezones=st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
                lambda away: timezone(timedelta(minutes=away // timedelta(minutes=1)))
            ),
        ),
        min_size=1,
    )
)
def test_iso_dates_as_python_reads_them(times):
    whole = [time.replace(microsecond=0) for time in times]
    values = [time.isoformat() for time in whole]
    assert in_duckdb(values, "iso") == [time.timestamp() for time in whole]
    assert [seconds_of(value, "iso") for value in values] == [time.timestamp() for time in whole]


def test_parquet_times_know_their_unit(read, tmp_path):
    pa = pytest.importorskip("pyarrow", exc_type=ImportError)
    import pyarrow.parquet as pq

    moment = datetime(2017, 12, 31, 12, tzinfo=UTC)
    for kind in (pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("s")):
        value = moment if getattr(kind, "tz", None) else moment.replace(tzinfo=None)
        table = pa.table({"who": ["a"], "what": [1], "when": pa.array([value], kind)})
        pq.write_table(table, tmp_path / "x.parquet")
        assert read(tmp_path / "x.parquet")[0][3] == [NOON]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,b", "found 2 fields, expected 3"),
        ("a,b,7,8", "found 4 fields, expected 3"),
        ("a,b,noon", "time 'noon' is not Unix seconds"),
        ("a,b,2017-12-31T12:00", "time '2017-12-31T12:00' is not Unix seconds but an ISO date (--time_unit iso)"),
        (",b,7", "user '' is empty"),
        ("a, ,7", "item ' ' is empty"),
        ("a,b,-7", "timestamp -7 is negative"),
        ("a,b,1514721600000", "after the year 2100"),
        ('"a"b,b,7', "not CSV"),
        ("\udcff,b,7", "not UTF-8"),
    ],
)
def test_a_malformed_csv_line_and_its_neighbours(read, tmp_path, line, reason):
    text = f'who,what,when\nx,1,5\n{line}\n\n"y\nz",2,6\nw,3,7\n'
    (tmp_path / "x.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    columns, bad = read(tmp_path / "x.csv")
    assert columns[0] == ["x", "y%0Az", "w"]
    assert columns[3] == [5, 6, 7]
    assert [number for number, _ in bad] == [3]
    assert reason in bad[0].reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"who": "a", "what": "b"}', "has no 'when'"),
        ('{"who": "a"', "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ('"who"', "not a JSON object"),
        ('{"who": null, "what": "b", "when": 1}', "user 'None' is not text or a whole number"),
        ('{"who": ["a"], "what": "b", "when": 1}', "user '['a']' is not"),
        ('{"who": true, "what": "b", "when": 1}', "user 'True' is not"),
        ('{"who": 1.5, "what": "b", "when": 1}', "user '1.5' is not"),
        ('{"who": 1, "what": 2, "when": NaN}', "time 'nan' is not Unix seconds"),
        ('{"who": 1, "what": 2, "when": "1", "x": ' + "[" * 100_000, "not a JSON object"),
        ('{"who": 1, "what": 2, "when": ' + "9" * 400 + "}", "is not Unix seconds"),
    ],
)
def test_a_malformed_json_line_and_its_neighbours(read, tmp_path, line, reason):
    text = f'{{"who": 5, "what": "b", "when": 1}}\n{line}\n\n{{"who": "c", "what": "b", "when": "3"}}'
    (tmp_path / "x.jsonl").write_text(text)
    columns, bad = read(tmp_path / "x.jsonl")
    assert (columns[0], columns[3]) == (["5", "c"], [1, 3])
    assert [number for number, _ in bad] == [2]
    assert reason in bad[0].reason


def test_refused_files(read, tmp_path):
    for name, text, message in [
        ("x.csv", "a,b,c\n1,2,3\n", "no column 'who'"),
        ("x.csv", "who,what,when,who\n1,2,3,4\n", "2 column 'who'"),
        ("x.csv", 'who,"what"x,when\n', "not a CSV header"),
        ("x.csv", "who;what;when\n1;2;3\n", "no column 'who'"),
        ("x.csv", "", "empty"),
        ("x.csv", "who,what,when\n", "holds no rows"),
        ("x.parquet", "no", "does not read as Parquet"),
        ("x.xlsx", "no", "no known ending"),
    ]:
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow", exc_type=ImportError)
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


@pytest.mark.parametrize("wrong", [{"time_unit": "min"}, {"format": "xlsx"}, {"delimiter": ""}, {"delimiter": "\n"}])
def test_refused_options(wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong))} is"):
        Columns("a", "b", "c", **wrong)


def test_a_condition_that_no_row_fulfils_is_named(cli, tmp_path):
    (tmp_path / "x.csv").write_text("who,what,when\na,i,1514721600\n")
    flags = ["--dataset", "mine", "--user_col", "who", "--item_col", "what", "--time_col", "when"]
    code, _, errors = cli("convert", "generic", "--raw", tmp_path / "x.csv", *flags, "--where", "what = 'view'")
    assert code == 2
    assert """x.csv has no row for which --where "what = 'view'" is true""" in errors
