"""The datasets known by name: where they are published, how their file looks, the paper's thresholds."""

from dataclasses import dataclass, field

from recbole_session.converters.columns import FORMATS, Columns
from recbole_session.converters.movielens import Layout
from recbole_session.converters.preprocessing import Thresholds

_SITE = "https://files.grouplens.org/datasets/movielens"
_DOUBLE_COLON = Layout("::", names={"movies.dat": "::"})
_CSV = Layout(",", ("userId,movieId,rating,timestamp",), header_required=True, names={"movies.csv": ","})
_ATOMIC = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
_TAB = Layout("\t", (_ATOMIC,), names={"u.item": "|", "ml-100k.item": "\t"})
_RELEASES = {  # file, layout, MD5 of the zip, lowest rating that is kept
    "ml-1m": ("ratings.dat", _DOUBLE_COLON, "c4d9eecfca2ab87c1945afe126590906", 1.0),
    "ml-10m": ("ratings.dat", _DOUBLE_COLON, "ce571fd55effeba0271552578f2648bd", 4.0),
    "ml-20m": ("ratings.csv", _CSV, "cd245b17a1ae2cc31bb14903e1204af3", 4.0),
    "ml-25m": ("ratings.csv", _CSV, "6b51fb2759a8657d3bfcbfc42b592ada", 4.0),
    "ml-32m": ("ratings.csv", _CSV, "d472be332d4daa821edc399621853b57", 4.0),
}

# Columns in SQL.
_SINCE_SESSION_BEGAN = "epoch(TRY_CAST(eventdate AS TIMESTAMP)) + TRY_CAST(timeframe AS BIGINT) // 1000"
_TRACK = "=concat(artist, ' / ', track)"
_INVOICE_TIME = "epoch(TRY_STRPTIME(InvoiceDate, ['%m/%d/%Y %H:%M', '%Y-%m-%d %H:%M:%S']))"

# The columns of files without a header.
_YOOCHOOSE_FIELDS = ("session", "time", "item", "category")
_LASTFM_FIELDS = ("user", "time", "artist_id", "artist", "track_id", "track")


@dataclass(frozen=True)
class Dataset:
    """A published dataset.

    ``files`` are the names its ratings go by. A MovieLens release has a ``layout``, Steam neither that nor
    ``columns``. ``checksum`` is what the publisher states for the download, None where nothing is stated.
    """

    url: str
    files: tuple[str, ...]
    layout: Layout | None = None
    checksum: str | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    all_users: bool = False
    columns: Columns | None = None


ANY_FILE = Dataset("", (*(f"*{ending}" for endings in FORMATS.values() for ending in endings), "*"))
DATASETS = {
    # RecBole's own example: everything is kept, so that numbers compare with those published on it.
    "ml-100k": Dataset(
        f"{_SITE}/ml-100k.zip",
        ("u.data", "ml-100k.inter"),
        _TAB,
        "md5:0e33842e24a9c977be4e0107933c0723",
        Thresholds(min_rating=1.0, min_item_rows=1, max_rows_per_user=100_000),
        all_users=True,
    ),
    **{
        name: Dataset(f"{_SITE}/{name}.zip", (file,), layout, f"md5:{md5}", Thresholds(min_rating=min_rating))
        for name, (file, layout, md5, min_rating) in _RELEASES.items()
    },
    "steam": Dataset(
        "https://mcauleylab.ucsd.edu/public_datasets/data/steam/steam_reviews.json.gz", ("steam_reviews.json",)
    ),
    # Views only. Visitors have no sessions of their own; the default gap makes them.
    "retailrocket": Dataset(
        "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        ("events.csv",),
        columns=Columns("visitorid", "itemid", "timestamp", time_unit="ms", where="event = 'view'"),
    ),
    # Most rows have no user, so a session is one. timeframe is milliseconds since the session began.
    "diginetica": Dataset(
        "https://competitions.codalab.org/competitions/11161",
        ("train-item-views.csv",),
        all_users=True,
        columns=Columns(
            "sessionId", "itemId", f"=CAST({_SINCE_SESSION_BEGAN} AS VARCHAR)", session="sessionId", delimiter=";"
        ),
    ),
    "yoochoose": Dataset(
        "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
        ("yoochoose-clicks.dat",),
        all_users=True,
        columns=Columns(
            "session", "item", "time", session="session", time_unit="iso", format="csv", header=_YOOCHOOSE_FIELDS
        ),
    ),
    # Many tracks have no id, so an item is its artist and its name.
    "lastfm-1k": Dataset(
        "http://ocelma.net/MusicRecommendationDataset/lastfm-1K.html",
        ("userid-timestamp-artid-artname-traid-traname.tsv",),
        columns=Columns(
            "user", _TRACK, "time", title=_TRACK, time_unit="iso", delimiter="\t", header=_LASTFM_FIELDS, quoted=False
        ),
    ),
    "amazon-2018": Dataset(
        "https://nijianmo.github.io/amazon/index.html",
        ("*.json",),
        columns=Columns("reviewerID", "asin", "unixReviewTime", "overall"),
    ),
    "amazon-2023": Dataset(
        "https://amazon-reviews-2023.github.io",
        ("*.jsonl",),
        columns=Columns("user_id", "parent_asin", "timestamp", "rating", time_unit="ms"),
    ),
    "globo": Dataset(
        "https://www.kaggle.com/datasets/gspmoreira/news-portal-user-interactions-by-globocom",
        ("clicks_hour_*.csv", "clicks.zip"),
        columns=Columns("user_id", "click_article_id", "click_timestamp", session="session_id", time_unit="ms"),
    ),
    # One invoice is one session. Cancelled invoices (C...) and rows without a customer are left out.
    "online-retail": Dataset(
        "https://archive.ics.uci.edu/dataset/352/online+retail",
        ("*.csv",),
        columns=Columns(
            "CustomerID",
            "StockCode",
            f"=CAST({_INVOICE_TIME} AS VARCHAR)",
            session="InvoiceNo",
            title="Description",
            encoding="latin-1",
            where="CustomerID <> '' AND InvoiceNo NOT LIKE 'C%' AND TRY_CAST(Quantity AS DOUBLE) > 0",
        ),
    ),
}
