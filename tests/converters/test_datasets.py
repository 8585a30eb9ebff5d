"""Public session logs in their published formats, a few made-up rows each."""

import io
import json
import zipfile

import pytest

from recbole_session.converters.conversion import run_conversion
from recbole_session.errors import InputError
from tests.converters.reference_converter import read_inter

EVERYBODY = {"all_users": True, "min_item_rows": 1}


def lines(*rows):
    return ("\n".join(rows) + "\n").encode()


LASTFM = "userid-timestamp-artid-artname-traid-traname.tsv"
GLOBO = (
    "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment,"
    "click_deviceGroup,click_os,click_country,click_region,click_referrer_type"
)
RETAIL = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
AMAZON_2018 = {
    "verified": True,
    "reviewTime": "09 13, 2015",
    "style": {"Format:": " Kindle"},
    "reviewText": "it's\n",
    "overall": 5.0,
}
AMAZON_2023 = {"title": "Good", "text": "", "images": [], "helpful_vote": 0, "verified_purchase": True, "asin": "V"}

# Dataset -> files, and the expected (user, item, rating, time, session) of each row.
CASES = {
    "retailrocket": (
        {
            "events.csv": lines(
                "timestamp,visitorid,event,itemid,transactionid",
                "1433221332117,257597,view,355908,",
                "1433221400000,257597,addtocart,355908,",
                "1433307800000,257597,transaction,355908,4000",
                "1433307900000,257597,view,12,",
            )
        },
        [("257597", "355908", "1.0", "1433221332", "1"), ("257597", "12", "1.0", "1433307900", "2")],
    ),
    "diginetica": (
        {
            "train-item-views.csv": lines(
                "sessionId;userId;itemId;timeframe;eventdate",
                "1;NA;81766;526309;2016-05-09",
                "1;NA;31331;1031018;2016-05-09",
                "2;5;32118;243569;2016-05-09",
            )
        },
        [
            ("1", "81766", "1.0", "1462752526", "1"),
            ("1", "31331", "1.0", "1462753031", "1"),
            ("2", "32118", "1.0", "1462752243", "2"),
        ],
    ),
    "yoochoose": (
        {
            "yoochoose-clicks.dat": lines(
                "1,2014-04-07T10:51:09.277Z,214536502,0",
                "1,2014-04-07T10:54:09.868Z,214536500,0",
                "2,2014-04-07T13:56:37.614Z,214662742,S",
            )
        },
        [
            ("1", "214536502", "1.0", "1396867869", "1"),
            ("1", "214536500", "1.0", "1396868049", "1"),
            ("2", "214662742", "1.0", "1396878997", "2"),
        ],
    ),
    "lastfm-1k": (
        {
            LASTFM: "\n".join(
                [
                    'user_000001\t2009-05-04T23:08:57Z\tf1b1cf71\tDeep "Dish"\t\tFuck Me Im Famous',
                    'user_000001\t2009-05-04T13:54:10Z\ta7f7df4a\t坂本龍一\t9d1b1d7b\t"Composition',
                ]
            ).encode()
        },
        [
            ("user_000001", "坂本龍一 / %22Composition", "1.0", "1241445250", "1"),
            ("user_000001", "Deep %22Dish%22 / Fuck Me Im Famous", "1.0", "1241478537", "1"),
        ],
    ),
    "amazon-2018": (
        {
            "Books_5.json": lines(
                *(
                    json.dumps({**AMAZON_2018, "reviewerID": "A1", "asin": item, "unixReviewTime": time})
                    for item, time in (("000100039X", 1442102400), ("B2", 1442102400 + 86_401))
                )
            )
        },
        [("A1", "000100039X", "5.0", "1442102400", "1"), ("A1", "B2", "5.0", "1442188801", "2")],
    ),
    "amazon-2023": (
        {
            "All_Beauty.jsonl": lines(
                json.dumps(
                    {**AMAZON_2023, "rating": 4.0, "parent_asin": "P", "user_id": "AG", "timestamp": 1588687728923}
                )
            )
        },
        [("AG", "P", "4.0", "1588687728", "1")],
    ),
    "globo": (
        {
            "clicks_hour_001.csv": lines(GLOBO, "0,7,1506828968000,2,9,1506829100000,4,3,20,1,20,2"),
            "clicks_hour_000.csv": lines(
                GLOBO,
                "0,5,1506825423271,2,157541,1506826828020,4,3,20,1,20,2",
                "0,5,1506825423271,2,68866,1506826858020,4,3,20,1,20,2",
            ),
        },
        [
            ("0", "157541", "1.0", "1506826828", "1"),
            ("0", "68866", "1.0", "1506826858", "1"),
            ("0", "9", "1.0", "1506829100", "2"),
        ],
    ),
    "online-retail": (
        {
            "data.csv": "\r\n".join(
                [
                    RETAIL,
                    '536365,85123A,"WHITE, T-LIGHT £1",6,12/1/2010 8:26,2.55,17850,United Kingdom',
                    "536365,71053,WHITE LANTERN,6,12/1/2010 8:26,3.39,17850,United Kingdom",
                    "536366,22633,HAND WARMER,6,12/1/2010 8:28,1.85,17850,United Kingdom",
                    "C536379,D,Discount,-1,12/1/2010 9:41,27.5,17850,United Kingdom",
                    "536414,22139,,56,12/1/2010 11:52,0,,United Kingdom",
                ]
            ).encode("latin-1")
        },
        [
            ("17850", "85123A", "1.0", "1291191960", "1"),
            ("17850", "71053", "1.0", "1291191960", "1"),
            ("17850", "22633", "1.0", "1291192080", "2"),
        ],
    ),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_published_format(name, packed, tmp_path):
    files, expected = CASES[name]
    raw = tmp_path / "raw"
    raw.mkdir()
    if packed:
        with zipfile.ZipFile(raw / "x.zip", "w") as archive:
            for file, content in files.items():
                archive.writestr(f"inner/{file}", content)
        raw = raw / "x.zip"
    else:
        for file, content in files.items():
            (raw / file).write_bytes(content)
    conversion = run_conversion(name, raw, tmp_path, **EVERYBODY)
    assert [tuple(row) for row in read_inter(conversion.path)[1]] == expected
    assert conversion.card["lines"]["malformed"] == 0
    assert conversion.path.with_suffix(".item").exists() == (name in ("lastfm-1k", "online-retail"))


def test_titles(tmp_path):
    (tmp_path / "data.csv").write_bytes(CASES["online-retail"][0]["data.csv"])
    written = run_conversion("online-retail", tmp_path / "data.csv", tmp_path, **EVERYBODY).path
    assert written.with_suffix(".item").read_text(encoding="utf-8") == (
        "item_id:token\ttitle:token_seq\n85123A\tWHITE, T-LIGHT £1\n71053\tWHITE LANTERN\n22633\tHAND WARMER\n"
    )
    run_conversion("globo", globo_zip(tmp_path), tmp_path, dataset="online-retail", **EVERYBODY)
    assert not written.with_suffix(".item").exists()  # names of other items


@pytest.mark.parametrize(
    ("name", "ratings", "film", "text"),
    [
        ("ml-1m", "ratings.dat", "movies.dat", "2::L'\xe9t\xe9::Drama\n30::\"B\" \x1b\tC::Drama\n9::Nobody's::Drama\n"),
        ("ml-20m", "ratings.csv", "movies.csv", 'movieId,title,genres\r\n2,L\'\xe9t\xe9,D\r\n30,"""B"" C",D\r\n'),
        ("ml-100k", "u.data", "u.item", '2|L\'\xe9t\xe9|01-Jan-1995||http\n30|"B" C|01-Jan-1995\n'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_titles_of_films_lie_beside_the_ratings(name, ratings, film, text, packed, tmp_path):
    mark = {"ratings.dat": "::", "ratings.csv": ",", "u.data": "\t"}[ratings]
    header = ["userId,movieId,rating,timestamp"] if mark == "," else []
    rows = "\n".join([*header, *(mark.join(row.split()) for row in ("1 30 4.0 50", "1 2 4.0 60", "1 4 4.0 70"))])
    encoding = "utf-8" if mark == "," else "latin-1"
    for file, content in ((ratings, rows.encode()), (film, text.encode(encoding))):
        (tmp_path / file).write_bytes(content)
    raw = tmp_path / ratings
    if packed:
        raw = tmp_path / "x.zip"
        with zipfile.ZipFile(raw, "w") as archive:
            for file in (ratings, film):
                archive.write(tmp_path / file, f"{name}/{file}")
    written = run_conversion(name, raw, tmp_path / "out", **EVERYBODY).path
    expected = "item_id:token\ttitle:token_seq\n2\tL'\xe9t\xe9\n4\t\n30\t'B' C\n"
    assert written.with_suffix(".item").read_text(encoding="utf-8") == expected
    (tmp_path / film).unlink()
    if not packed:
        run_conversion(name, raw, tmp_path / "out", **EVERYBODY)
        assert not written.with_suffix(".item").exists()


def globo_zip(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, content in CASES["globo"][0].items():
            archive.writestr(f"clicks/{file}", content)
    (tmp_path / "clicks.zip").write_bytes(buffer.getvalue())
    return tmp_path / "clicks.zip"


def test_a_malformed_line_in_one_of_several_files_is_counted(tmp_path):
    for file, content in CASES["globo"][0].items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "clicks_hour_002.csv").write_bytes(lines(GLOBO, "0,5,1506825423271,2,157541,never,4,3,20,1,20,2"))
    with pytest.raises(InputError, match=r"clicks_hour_002.csv line 2: time 'never' is not Unix milliseconds"):
        run_conversion("globo", tmp_path, tmp_path / "out", strict=True)
    conversion = run_conversion("globo", tmp_path / "clicks_hour_*.csv", tmp_path / "out", skip_bad=True, **EVERYBODY)
    assert conversion.card["lines"]["malformed"] == 1
    assert conversion.card["counts"][0]["rows"] == 3


def test_what_cannot_be_fetched(tmp_path):
    with pytest.raises(InputError, match=r"cannot fetch globo: see https://.*--raw"):
        run_conversion("globo", None, tmp_path, download=True)
