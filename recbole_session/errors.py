"""The one exception that means "you, the reader of this message, can mend it", and text that is safe to print."""

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A mistake in a key, a file or a command, explained in one sentence.

    The sentence names the key or the file and line, what was found, what is allowed and what to do.
    The command line prints it without a traceback and leaves with exit code 2.
    """


def missing(what: str, packages: str, extra: str, or_else: str = "") -> InputError:
    """Error for something that needs the packages of an extra."""
    return InputError(f"{what} needs {packages}: pip install 'recbole-session[{extra}]'{or_else}")


@contextmanager
def needs(what: str, packages: str, extra: str, or_else: str = "") -> Iterator[None]:
    """Turn an `ImportError` in the block into the error of `missing`."""
    try:
        yield
    except ImportError as error:
        raise missing(what, packages, extra, or_else) from error


def shown(value: object) -> str:
    """Text of a value for a sentence, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits or levels than Python writes
        text = f"a {type(value).__name__} too large to write"
    return text if len(text) <= 200 else f"{text[:190]}..."


def nearest(name: object, known: Collection[str]) -> str:
    """Words that point from an unknown name to the nearest known one, or nothing."""
    lower = {entry.lower(): entry for entry in known}
    matches = difflib.get_close_matches(str(name)[:100].lower(), list(lower), n=1, cutoff=0.5)
    return f"; did you mean {lower[matches[0]]!r}?" if matches else ""


def printable(text: str) -> str:
    r"""Escape what a terminal could take for a command, such as ``\x1b[2J`` in a raw id; line ends stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)
