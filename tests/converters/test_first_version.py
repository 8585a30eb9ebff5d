"""The files are those of version 0.1, byte for byte: their checksums were computed with it."""

import datetime
import gzip
import hashlib
import json
import random
from pathlib import Path

import pytest

from recbole_session.converters.columns import Columns
from recbole_session.converters.conversion import run_conversion
from tests.conftest import shared_folder

LOOSE = {"min_rows_per_session": 1, "min_sessions": 1}
NAMES = [
    "Foo",
    r"it\'s",
    "a b",
    r"\xe9t\xe9",
    r"\u2028x",
    r"\ud83d",
    "NA",
    "100%",
    r"\U0001f600",
    "None",
    '"q"',
    r"x\ty",
]
IDS = ["a", "b c", "é", "NA", "50%", 'x"y', "null", "o'k", "z\u2028", " lead", "trail ", "#h", "=1+1"]
RATINGS = [1, 2.5, "3", "4.", " 5 ", "1e0", "-0.5", "0.30000000000000004", "1e22", "1e-7"]


def movielens(draw):
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(1, 400):
        time = 10**9 + draw.randrange(10**7)
        for _ in range(draw.randrange(20, 300)):
            time += draw.choice([5, 60, 60, 3600, 200_000])
            lines.append(f"{user},{int(draw.random() ** 2 * 900) + 1},{draw.randrange(1, 11) / 2},{time}")
    return "\n".join(lines).encode()


def steam(draw):
    lines = []
    for n in range(30_000):
        user, day = f"{draw.choice(NAMES)}{n // 2 % 3000 if draw.random() < 0.98 else ''}", n // 2 * 37 % 700
        lines.append(
            f"{{u'username': u'{user}', u'hours': {draw.random():.1f}, u'product_id': u'{draw.randrange(400)}', "
            f"u'date': u'{2011 + day % 6}-{day % 12 + 1:02}-{day % 28 + 1:02}', u'text': u'it\\'s \\\\ {{}} {n}'}}\r\n"
        )
    lines[777] = "damaged\r\n"
    return gzip.compress("".join(lines).encode())


def events(draw, n):
    for k in range(n):
        user, item = f"{draw.choice(IDS)}{k // 3 % 900}", f"{draw.choice(IDS)}{draw.randrange(50)}"
        yield user, item, int(1.5e9) + k * 977, draw.choice(RATINGS)


def csv(draw):
    def quoted(text):
        return '"' + text.replace('"', '""') + '"'

    rows = (f'{quoted(u)},"two\nlines ""q""",{quoted(i)},{t},{x}\n' for u, i, t, x in events(draw, 20_000))
    return ("u,x,i,t,r\n" + "".join(rows)).encode()


def jsonl(draw):
    def iso(time, style):
        moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
        east = moment.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
        return [moment.isoformat(), f"{moment:%Y-%m-%d %H:%M}", east.isoformat(), f"{moment:%Y-%m-%d}"][style]

    rows = enumerate(events(draw, 20_000))
    lines = ({"u": u if n % 3 else n % 50, "i": i, "t": iso(t, n % 4), "r": x} for n, (u, i, t, x) in rows)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def globo(draw):
    lines = ["user,item,timestamp_ms,session_id"]
    for n in range(20_000):
        lines.append(f"{n // 4 % 500},{draw.randrange(100)},{1_500_000_000_000 + n * 77_777_777},{n // 2}")
    return "\n".join(lines).encode()


GENERIC = Columns("u", "i", "t", "r")
ISO = Columns("u", "i", "t", "r", time_unit="iso")
FILES = {
    "ml-25m": (movielens, "ratings.csv", {"all_users": True}, "77b23c2a45001aae422a4f72"),
    "steam": (steam, "steam_reviews.json.gz", {"all_users": True}, "346fefd5537ec36bab3481fc"),
    "generic csv": (csv, "log.csv", {"columns": GENERIC, **LOOSE}, "069986bd0e424e1ac6d9ecb1"),
    "generic jsonl": (jsonl, "log.jsonl", {"columns": ISO, **LOOSE}, "0d6614f76fbafbc031218bf4"),
    "generic globo": (
        globo,
        "clicks.csv",
        {"columns": Columns("user", "item", "timestamp_ms", time_unit="ms"), **LOOSE},
        "847381b56509f34799f43439",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_made_files(kind, tmp_path):
    make, name, options, checksum = FILES[kind]
    (tmp_path / name).write_bytes(make(random.Random(2020)))
    written = run_conversion(kind.partition(" ")[0], tmp_path / name, tmp_path, dataset="d", **options).path
    assert hashlib.sha256(written.read_bytes()).hexdigest().startswith(checksum)


REAL = {
    "ml-1m-part/ratings.dat.gz": ("ml-1m", {}, "b70d11b5d6ffcd7aadec86ac"),
    "globo-part/clicks.csv.gz": (
        "generic",
        {"columns": Columns("user", "item", "timestamp_ms", time_unit="ms"), "session_gap": 1800},
        "d877e3f6d8a8b2095790a37e",
    ),
    "online-retail/rows.csv.gz": (
        "generic",
        {"columns": Columns("user", "item", "timestamp")},
        "713690560a6ed3bccc75fc68",
    ),
}


@pytest.mark.parametrize("path", REAL)
def test_real_files(path, tmp_path):
    name, options, checksum = REAL[path]
    raw = shared_folder() / "data" / Path(path)
    if not raw.is_file():
        pytest.skip(f"{raw.name} is not here")
    written = run_conversion(name, raw, tmp_path, dataset="d", **options).path
    assert hashlib.sha256(written.read_bytes()).hexdigest().startswith(checksum)
