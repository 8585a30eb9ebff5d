"""Raw interaction logs in, RecBole atomic files out."""

from pathlib import Path
from typing import Any


def convert(name: str, raw: Path | None, output_dir: Path, **options: Any) -> Path:
    """Convert a dataset and return the path of the written ``.inter`` file.

    Parameters
    ----------
    name
        A key of `datasets.DATASETS`, like ``ml-1m``, ``steam`` or ``globo``, or ``generic``.
    raw
        A zip, a folder, a bare file, a ``.gz`` or a pattern of several. None takes the copy of ml-100k
        in the recbole package, or fetches the dataset with ``download=True``.
    output_dir
        The dataset goes to ``<output_dir>/<name>/<name>.inter``, its card beside it.
    **options
        The fields of `conversion.Options` and of `preprocessing.Thresholds`.

    Raises
    ------
    InputError
        If an option, the file or its content is wrong. Nothing is written then.
    """
    from recbole_session.converters.conversion import run_conversion

    return run_conversion(name, raw, output_dir, **options).path
