r"""Steam reviews: a Python 2 dict literal a line, walked by one regular expression, never evaluated.

The expression steps over every key and value as Python's own tokenizer would, so text inside a review
cannot pass for a field. Strings are matched by possessive loops and the kinds of pairs exclude each
other, so a line has one way to match: time is linear in its length, whatever it holds.
"""

import gc
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from typing import Any, TypeVar

from recbole_session.converters.columns import escape_token, id_fault, seconds_of
from recbole_session.converters.engine import Reader
from recbole_session.converters.lines import MAX_LINE_BYTES, BadLine, LineCheck, shown, sql_path, time_fault
from recbole_session.converters.sources import Read, Source, check_start, open_source
from recbole_session.errors import InputError

KEYS = (b"username", b"product_id", b"date")
MAX_WORKERS = 8
PARALLEL_BYTES = 32 << 20  # a small file is not worth the start of the workers
_BLOCK_BYTES = 1 << 20

_SINGLE = rb"'[^'\\\n]*+(?:\\[^\n][^'\\\n]*+)*+'"
_DOUBLE = rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:[lL]|(?:\.[0-9]*+)?(?:[eE][-+]?[0-9]++)?)"
_VALUE = rb"(?:u?(?:%b|%b)|%b|True|False|None)" % (_SINGLE, _DOUBLE, _NUMBER)
_ANY_KEY = b"|".join(KEYS)


def _line_pattern(quotes: bytes, colon: bytes, comma: bytes, space: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a whole line with one group per key; the last value of a key wins.

    Keys hold no escapes: an escaped spelling of a wanted key must not slip by as another key.
    """
    pairs = []
    for quote in quotes.decode():
        mark = quote.encode()
        wanted = [rb"%b%b%b(%b)" % (key, mark, colon, _VALUE) for key in KEYS]
        other = rb"(?!(?:%b)%b)[^%b\\\n]*+%b%b%b" % (_ANY_KEY, mark, mark, mark, colon, _VALUE)
        pairs.append(rb"%b(?:%b|%b)" % (mark, b"|".join(wanted), other))
    # A pair is closed by a comma or stands before the closing brace.
    body = rb"^%b\{(?:%bu?(?:%b)%b(?:%b|(?=\})))+%b\}%b$"
    return re.compile(body % (space, space, b"|".join(pairs), space, comma, space, space), re.MULTILINE)


# What Python's repr writes, and what its reader also takes: either quote, blanks anywhere.
PLAIN_LINE = _line_pattern(b"'", b": ", b", ", b"")
LINE = _line_pattern(b"'\"", rb" *+: *+", b",", b" *+")
# The escapes that Python knows, and the beginnings of broken ones; it leaves any other as it is.
_ESCAPE = re.compile(
    r"""\\(?:[0-7]{1,3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[abfnrtvxuUN\\'"])"""
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class SteamReader(Reader):
    """Reads review files; ratings, which Steam has none of, are 1.

    Processes parse blocks of lines. What they find goes through a temporary file to DuckDB.
    """

    def __init__(self, source: Source, check: LineCheck) -> None:
        self._source, self._check = source, check

    def select(self, scratch: Path) -> str:
        """Parse the source into a file in ``scratch`` and return the SELECT of its rows."""
        path = scratch / "reviews.tsv"
        large = self._source.path.stat().st_size > PARALLEL_BYTES
        with open_source(self._source) as read, path.open("wb") as parsed:
            blocks = self._blocks(read)
            with closing(map_in_order(parse_block, blocks, large)) as results:
                for rows, n_rows, bad in results:
                    parsed.write(rows)
                    self._check.add(n_rows, len(bad), bad)
        self._check.good = 0  # DuckDB counts the good ones once more
        columns = "{'user_id': 'VARCHAR', 'item_id': 'VARCHAR', 'seconds': 'BIGINT'}"
        return f"""
            SELECT user_id, item_id, 1.0 AS rating, seconds, NULL AS own_session, NULL AS title, false AS malformed
            FROM read_csv({sql_path(path)}, columns={columns}, auto_detect=false, header=false,
                delim='\t', quote='', escape='', nullstr='\n')"""

    def _blocks(self, read: Read) -> Iterator[tuple[bytes, int]]:
        """Cut the source into blocks of whole lines, with the number of their first line."""
        name, line = self._source.name, 1
        chunk = read(_BLOCK_BYTES)
        check_start(chunk, name)
        rest = chunk.removeprefix(b"\xef\xbb\xbf")
        first = rest.lstrip().partition(b"\n")[0]
        if first and not first.startswith(b"{"):
            raise InputError(
                f"{name} begins with {shown(first)}, but a Steam review begins with '{{': is this the review file?"
            )
        while chunk:
            if end := rest.rfind(b"\n") + 1:
                yield rest[:end], line
                line, rest = line + rest.count(b"\n"), rest[end:]
            if len(rest) > MAX_LINE_BYTES:
                raise InputError(
                    f"{name} line {line} is longer than {MAX_LINE_BYTES >> 20} MB: is this the review file?"
                )
            chunk = read(_BLOCK_BYTES)
            rest += chunk
        if rest:
            yield rest + b"\n", line


def parse_block(data: bytes, first_line: int) -> tuple[bytes, int, list[BadLine]]:
    """Parse lines of review literals; the data ends with a line feed, and its first line has the number ``first_line``.

    Returns
    -------
    rows : bytes
        Lines of user token, item token and seconds (UTC midnight of the review's day), separated by tabs.
    n_rows : int
    bad : list
        The lines outside the grammar, without user, item or date, or with an impossible date. Blank
        lines are neither rows nor bad.
    """
    data = data.replace(b"\r\n", b"\n")
    found: list[tuple[bytes, ...]] = PLAIN_LINE.findall(data)
    numbered: Iterable[tuple[int, tuple[bytes, ...]]] = enumerate(found, first_line)
    rows, bad = [], list[BadLine]()
    if len(found) != data.count(b"\n"):
        numbered, bad = _match_line_by_line(data, first_line)
    for line, literals in numbered:
        try:
            rows.append("\t".join([read(literal) for read, literal in zip(_READ, literals, strict=True)]) + "\n")
        except ValueError:
            bad.append(BadLine(line, _reason(literals)))
    return "".join(rows).encode(), len(rows), sorted(bad)


def _reason(literals: Sequence[bytes]) -> str:
    for key, read, literal in zip(KEYS, _READ, literals, strict=True):
        try:
            read(literal)
        except ValueError as error:  # UnicodeDecodeError is one too
            why = "holds bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            return f"{key.decode()} {shown(literal)} {why}" if literal else f"{key.decode()} is missing"
    raise AssertionError("every value of a malformed line reads")


def _match_line_by_line(data: bytes, first_line: int) -> tuple[list[tuple[int, tuple[bytes, ...]]], list[BadLine]]:
    found, bad = [], []
    for number, line in enumerate(data.split(b"\n")[:-1], first_line):
        if match := PLAIN_LINE.fullmatch(line) or LINE.fullmatch(line):
            found.append((number, tuple(_last_value(match, key) for key in range(len(KEYS)))))
        elif line.strip():
            bad.append(BadLine(number, f"not a literal of a Steam review: {shown(line)}"))
    return found, bad


def _last_value(match: re.Match[bytes], key: int) -> bytes:
    """Return a key's value, b"" if absent; of a key in single and in double quotes the later one."""
    groups = range(key + 1, len(match.groups()) + 1, len(KEYS))
    return match[max(groups, key=match.start)] or b""


def decode_string(literal: bytes) -> str:
    r"""Return the text of a string literal, as ``ast.literal_eval`` would.

    A `ValueError` if it is not a string, not UTF-8, or holds an escape that Python refuses (``\x4``).
    """
    body = literal[1:] if literal[:1] == b"u" else literal
    if body[:1] not in (b"'", b'"'):
        raise ValueError("is not a string")
    text = body[1:-1].decode("utf-8")
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _unescape(match: re.Match[str]) -> str:
    try:
        return match[0].encode("ascii").decode("unicode_escape")
    except ValueError:
        raise ValueError("holds a broken escape") from None


@lru_cache(1 << 16)
def _read_id(literal: bytes) -> str:
    text = decode_string(literal)
    if reason := id_fault(text):
        raise ValueError(reason)
    return escape_token(text)


@lru_cache(1 << 16)
def _read_day(literal: bytes) -> str:
    """Return the seconds of a day's UTC midnight."""
    text = decode_string(literal)
    if not _DATE.fullmatch(text):
        raise ValueError("is not a date like 2017-12-31")
    if (seconds := seconds_of(text, "iso")) is None:
        raise ValueError("is not a day of the calendar")
    if fault := time_fault(seconds):
        raise ValueError(fault)
    return str(int(seconds))


_READ = (_read_id, _read_id, _read_day)

Result = TypeVar("Result")


def map_in_order(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], parallel: bool
) -> Generator[Result, None, None]:
    """Call a module's function with the arguments of each task in as many processes as cores; yield results in order.

    At most two tasks a worker are under way, so memory does not grow with their number. Without several
    cores, or without fork (a spawned worker would run the caller's script again), it is plain ``starmap``.
    """
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    if not parallel or workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield from starmap(function, tasks)
        return
    pending: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start_worker, (os.getpid(),)) as pool:
        try:
            for task in tasks:
                pending.append(pool.submit(function, *task))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise InputError("a worker process was killed, most likely for lack of memory: free some.") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(parent: int) -> None:
    """Make this worker end when its parent does; one that is killed cannot tell its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    gc.disable()  # blocks of plain values hold no cycles, and looking for some is a fifth of the time

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
