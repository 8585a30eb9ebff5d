"""The datasets known by name: where they are published, how their file looks, the paper's thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field

from recbole_session.converters.movielens import Layout
from recbole_session.converters.thresholds import Thresholds

_SITE = "https://files.grouplens.org/datasets/movielens"
_DOUBLE_COLON = Layout("::")
_CSV = Layout(",", ("userId,movieId,rating,timestamp",), header_required=True)
_TAB = Layout("\t", ("user_id:token\titem_id:token\trating:float\ttimestamp:float",))


@dataclass(frozen=True)
class Dataset:
    """A published dataset.

    ``files`` are the names its ratings go by, ``layout`` is None for Steam, ``checksum`` is what the
    publisher states for the download, None where nothing is stated.
    """

    url: str
    files: tuple[str, ...]
    layout: Layout | None
    checksum: str | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    all_users: bool = False


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
    "ml-1m": Dataset(
        f"{_SITE}/ml-1m.zip",
        ("ratings.dat",),
        _DOUBLE_COLON,
        "md5:c4d9eecfca2ab87c1945afe126590906",
        Thresholds(min_rating=1.0),
    ),
    "ml-10m": Dataset(
        f"{_SITE}/ml-10m.zip",
        ("ratings.dat",),
        _DOUBLE_COLON,
        "md5:ce571fd55effeba0271552578f2648bd",
        Thresholds(min_rating=4.0),
    ),
    "ml-20m": Dataset(
        f"{_SITE}/ml-20m.zip",
        ("ratings.csv",),
        _CSV,
        "md5:cd245b17a1ae2cc31bb14903e1204af3",
        Thresholds(min_rating=4.0),
    ),
    "ml-25m": Dataset(
        f"{_SITE}/ml-25m.zip",
        ("ratings.csv",),
        _CSV,
        "md5:6b51fb2759a8657d3bfcbfc42b592ada",
        Thresholds(min_rating=4.0),
    ),
    "ml-32m": Dataset(
        f"{_SITE}/ml-32m.zip",
        ("ratings.csv",),
        _CSV,
        "md5:d472be332d4daa821edc399621853b57",
        Thresholds(min_rating=4.0),
    ),
    "steam": Dataset(
        "https://mcauleylab.ucsd.edu/public_datasets/data/steam/steam_reviews.json.gz",
        ("steam_reviews.json",),
        None,
    ),
}
