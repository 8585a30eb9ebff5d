"""Fetching a published dataset: pooch verifies, shows progress, and renames only what is complete."""

from __future__ import annotations

import logging
from pathlib import Path

from recbole_session.errors import InputError

TIMEOUT = 30  # seconds without a byte


def download(url: str, checksum: str | None, folder: Path, progressbar: bool = True) -> Path:
    """Fetch a file once and return where it is.

    The file is written under a temporary name and renamed when complete and verified, so an interrupted
    download starts anew and a finished one is never fetched twice.

    Parameters
    ----------
    url
        Where the file is.
    checksum
        ``"md5:..."`` as its publisher states it; None accepts what comes.
    folder
        Where the file goes, under the name it has in the address.

    Raises
    ------
    InputError
        If the server cannot be reached or refuses, or the file's checksum is another.
    """
    try:
        import pooch
        import requests
    except ImportError as error:
        raise InputError(
            "--download needs the package pooch: pip install 'recbole-session[download]', or fetch "
            f"{url} yourself and give it by --raw."
        ) from error
    name = url.rstrip("/").rpartition("/")[2]
    pooch.get_logger().setLevel(logging.WARNING)
    fetch = pooch.HTTPDownloader(progressbar=progressbar, timeout=TIMEOUT)
    try:
        return Path(pooch.retrieve(url, checksum, fname=name, path=folder, downloader=fetch))
    except (requests.RequestException, OSError) as error:
        raise InputError(
            f"{url} cannot be fetched ({error}): try again, or fetch it by other means and give it by --raw."
        ) from error
    except ValueError as error:  # pooch: the checksum
        raise InputError(
            f"{url} came with another checksum than the published {checksum}: it is damaged or has changed; try again."
        ) from error
