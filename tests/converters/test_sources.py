"""What a user may point at, and archives that mean harm."""

import gzip
import struct
import zipfile

import pytest

from recbole_session.converters import sources
from recbole_session.converters.sources import find_sources, open_source
from recbole_session.errors import InputError

NAMES = ("ratings.dat",)
TEXT = b"1::2::3::4\n"


def content(source):
    with open_source(source) as read:
        return b"".join(iter(lambda: read(7), b""))


def make_zip(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


@pytest.fixture(params=["zip", "folder", "nested folder", "folder of gz", "bare", "renamed", "gz", "gz by any name"])
def raw(request, tmp_path):
    kind = request.param
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("ml-1m/README", b"read me")
            archive.writestr("ml-1m/ratings.dat", TEXT)
        return tmp_path / "x.zip"
    folder = tmp_path / "ml" / ("inner" if kind == "nested folder" else "")
    folder.mkdir(parents=True)
    packed = "gz" in kind
    name = {"renamed": "x.txt", "gz by any name": "x.bin"}.get(kind, "ratings.dat.gz" if packed else "ratings.dat")
    (folder / name).write_bytes(gzip.compress(TEXT) if packed else TEXT)
    return tmp_path / "ml" if "folder" in kind else folder / name


def test_every_kind_of_raw_reads_the_same(raw):
    assert content(*find_sources(raw, NAMES)) == TEXT


def test_the_name_in_messages_has_no_directory(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{"ml__ratings.dat": TEXT})
    assert find_sources(path, NAMES)[0].name == "x.zip:ml/ratings.dat"


def test_a_zip_of_one_file_for_generic(tmp_path):
    assert content(*find_sources(make_zip(tmp_path / "x.zip", **{"mine.csv": TEXT}), ("*.csv", "*"))) == TEXT


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["../evil", "ratings.dat"], "points outside"),
        (["a/../../evil", "ratings.dat"], "points outside"),
        (["/etc/evil", "ratings.dat"], "points outside"),
        (["..\\evil", "ratings.dat"], "points outside"),
        (["C:\\evil", "ratings.dat"], "points outside"),
        (["movies.dat"], "no ratings.dat but movies.dat"),
        ([], "no ratings.dat but nothing"),
        (["a/ratings.dat", "b/ratings.dat"], "several ratings.dat"),
    ],
)
def test_refused_zips(tmp_path, members, message):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for member in members:
            archive.writestr(member, TEXT)
    with pytest.raises(InputError, match=message):
        find_sources(tmp_path / "x.zip", NAMES)


def test_refused_folders_and_paths(tmp_path):
    with pytest.raises(InputError, match=r"holds no ratings\.dat"):
        find_sources(tmp_path, NAMES)
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ratings.dat").write_bytes(TEXT)
    with pytest.raises(InputError, match=r"several ratings\.dat"):
        find_sources(tmp_path, NAMES)
    with pytest.raises(InputError, match="does not exist"):
        find_sources(tmp_path / "nowhere", NAMES)


@pytest.mark.parametrize("pack", ["gz", "zip"])
def test_a_bomb_is_stopped_early(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(sources, "FREE_EXPANSION_BYTES", 1 << 20)
    zeros = bytes(8 << 20)  # packs about 1000 times smaller
    path = tmp_path / "ratings.dat"
    path.write_bytes(gzip.compress(zeros)) if pack == "gz" else make_zip(path, **{"ratings.dat": zeros})
    n_bytes = 0
    with (
        open_source(*find_sources(path, NAMES)) as read,
        pytest.raises(InputError, match="more than 100 times"),
    ):
        while data := read(1 << 16):
            n_bytes += len(data)
    assert n_bytes < 2 << 20


def test_a_zip_whose_directory_lies_about_the_size(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{"ratings.dat": TEXT * 1000})
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 11)  # claims one line
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        content(*find_sources(path, NAMES))


@pytest.mark.parametrize("cut", [5, 30, -30, -9])
def test_damage_is_one_sentence(tmp_path, cut):
    import random

    text = "".join(f"{random.Random(1).random()}\n" for _ in range(100)).encode()
    for pack in ("gz", "zip"):
        path = tmp_path / f"x.{pack}"
        path.write_bytes(gzip.compress(text)) if pack == "gz" else make_zip(path, **{"ratings.dat": text})
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(InputError, match="cannot be read"):
            content(*find_sources(path, NAMES))


def test_an_encrypted_zip(tmp_path):
    path = make_zip(tmp_path / "x.zip", **{"ratings.dat": TEXT})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="encrypted"):
        content(*find_sources(path, NAMES))
