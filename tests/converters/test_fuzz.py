"""Hundreds of mutated files: a whole dataset or one sentence, never a traceback, never half a dataset."""

import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_session.converters.columns import Columns
from recbole_session.converters.conversion import run_conversion
from recbole_session.errors import InputError
from tests.converters.reference_converter import read_inter
from tests.hostile import edited, edits, examples

N = range(40)
STEAM = "".join(
    f"{{u'username': u'u{n % 4}', u'hours': 0.1, u'product_id': u'{n % 6}', "
    f"u'date': u'2017-01-{n % 9 * 3 + 1:02}', "
    f"u'text': u'it\\'s', \"x\": \"don't\"}}\n"
    for n in N
)
CSV = "".join(f'u{n % 4},"i{n % 6}",{10**9 + n * 40_000},4\n' for n in N)
JSONL = "".join(json.dumps({"u": n % 4, "i": f"i{n % 6}", "t": 10**9 + n * 40_000, "r": 4}) + "\n" for n in N)


def numbers(separator, header=""):
    lines = (separator.join(map(str, (n % 4, n % 6, 4.5, 10**9 + n * 40_000))) + "\n" for n in N)
    return (header + "".join(lines)).encode()


GENERIC = Columns("u", "i", "t", "r")
FILES = {
    "ml-100k": ("u.data", numbers("\t"), None),
    "ml-1m": ("ratings.dat", numbers("::"), None),
    "ml-10m": ("ratings.dat", numbers("::"), None),
    "ml-20m": ("ratings.csv", numbers(",", "userId,movieId,rating,timestamp\n"), None),
    "ml-25m": ("ratings.csv", numbers(",", "userId,movieId,rating,timestamp\n"), None),
    "ml-32m": ("ratings.csv", numbers(",", "userId,movieId,rating,timestamp\n"), None),
    "steam": ("steam_reviews.json", STEAM.encode(), None),
    "generic csv": ("x.csv", ("u,i,t,r\n" + CSV).encode(), GENERIC),
    "generic jsonl": ("x.jsonl", JSONL.encode(), GENERIC),
}


def pack(content, how, name):
    if how == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"d/{name}", content)
        return buffer.getvalue()
    return gzip.compress(content) if how == "gz" else content


def check_dataset(folder):
    """Assert that a folder holds one whole dataset."""
    assert sorted(path.name for path in folder.iterdir()) == ["d"]
    assert sorted(path.name for path in (folder / "d").iterdir()) == ["d.inter", "dataset.json"]
    card = json.loads((folder / "d" / "dataset.json").read_text(encoding="utf-8"))
    header, rows = read_inter(folder / "d" / "d.inter")
    assert len(rows) == card["output"]["rows"] == card["counts"][-1]["rows"] > 0
    assert all(len(row) == len(header) == 5 and all(row) for row in rows)
    assert all(0 <= int(row[3]) <= 4_102_444_800 for row in rows)


@pytest.mark.filterwarnings("error::DeprecationWarning")
@pytest.mark.parametrize("kind", FILES)
@examples(60)
@given(edits(4), st.sampled_from(["bare", "gz", "zip"]), edits(1), st.booleans())
def test_mutated_files(tmp_path_factory, kind, inside, how, outside, skip_bad):
    """Mutated text, packed, and the packed bytes mutated in turn; about 500 files in all."""
    name, content, columns = FILES[kind]
    folder = tmp_path_factory.mktemp("fuzz")
    packed = pack(edited(content, inside), how, name)
    raw = folder / (name if how != "gz" else f"{name}.gz")
    raw.write_bytes(edited(packed, outside) if how != "bare" else packed)
    flags = {"all_users": True, "min_item_rows": 1, "skip_bad": skip_bad, "columns": columns, "dataset": "d"}
    try:
        run_conversion(kind.partition(" ")[0], raw, folder / "out", **flags)
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
        assert not (folder / "out").exists()
    else:
        check_dataset(folder / "out")
