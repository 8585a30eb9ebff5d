"""Fetching from a server on this machine: whole, once, verified, or one sentence and no file."""

import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from recbole_session.converters import conversion
from recbole_session.converters.sources import download
from recbole_session.errors import InputError

pytest.importorskip("pooch")

BODY = "".join(f"{n % 3}::{n % 7}::5::{1000 + n * 90_000}\n" for n in range(500)).encode()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", BODY)
    return buffer.getvalue()


ZIP = zipped()
MD5 = "md5:" + hashlib.md5(ZIP).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(ZIP)))
        self.end_headers()
        # A server that breaks off in the middle, once.
        broken = "broken" in self.path and len(self.server.requests) == 1
        self.wfile.write(ZIP[: len(ZIP) // 2] if broken else ZIP)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def test_a_file_is_fetched_once(server, tmp_path):
    for _ in range(2):
        path = download(f"{server.address}/ml-1m.zip", MD5, tmp_path / "raw")
        assert path == tmp_path / "raw" / "ml-1m.zip"
        assert path.read_bytes() == ZIP
    assert server.requests == ["/ml-1m.zip"]


def test_without_a_checksum(server, tmp_path):
    assert download(f"{server.address}/x.zip", None, tmp_path).read_bytes() == ZIP


def test_another_checksum(server, tmp_path):
    with pytest.raises(InputError, match="another checksum"):
        download(f"{server.address}/ml-1m.zip", "md5:" + "0" * 32, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_leaves_nothing_and_the_next_try_succeeds(server, tmp_path):
    url = f"{server.address}/broken.zip"
    with pytest.raises(InputError, match="cannot be fetched"):
        download(url, None, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert download(url, None, tmp_path).read_bytes() == ZIP


def test_a_damaged_earlier_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "ml-1m.zip").write_bytes(ZIP[:100])
    assert download(f"{server.address}/ml-1m.zip", MD5, tmp_path).read_bytes() == ZIP


def test_no_such_file_and_no_server(server, tmp_path):
    with pytest.raises(InputError, match="404"):
        download(f"{server.address}/missing.zip", None, tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="cannot be fetched"):
        download(f"{server.address}/ml-1m.zip", None, tmp_path)


def test_from_the_command_line(server, cli, tmp_path, monkeypatch):
    known = replace(conversion.DATASETS["ml-1m"], checksum=MD5)
    monkeypatch.setitem(conversion.DATASETS, "ml-1m", known)
    flags = ("--download", "--url", f"{server.address}/ml-1m.zip", "--min_rows_per_session", "1")
    code, output, errors = cli("convert", "ml-1m", *flags)
    assert code == 0, errors
    assert "written" in output
    assert "100%" in errors  # the progress bar
    assert (tmp_path / "atomic_data" / "ml-1m" / "ml-1m.inter").is_file()
    assert (tmp_path / "atomic_data" / "raw" / "ml-1m.zip").read_bytes() == ZIP


def test_the_published_addresses():
    for name, dataset in conversion.DATASETS.items():
        assert dataset.url.startswith("http")
        assert (dataset.checksum is None) == (not name.startswith("ml-"))
