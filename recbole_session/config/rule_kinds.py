"""The vocabulary of `rules`: what a value may be, and the words for it."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANY = 10**9


@dataclass(frozen=True)
class Rule:
    """The values that a key may hold: a test, and the words for it."""

    allows: Callable[[Any], bool]
    words: str


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def integer(minimum: int, maximum: int = MANY) -> Rule:
    """Whole numbers between two bounds, which belong to them."""
    words = f"a whole number from {minimum:,} to {maximum:,}"
    return Rule(lambda value: _is_number(value, int) and minimum <= value <= maximum, words)


def number(minimum: float, maximum: float = MANY, *, open_minimum: bool = False, open_maximum: bool = False) -> Rule:
    """Numbers between two bounds, which belong to them unless they are open."""

    def allows(value: Any) -> bool:
        above = _is_number(value, (int, float)) and (value > minimum if open_minimum else value >= minimum)
        return above and (value < maximum if open_maximum else value <= maximum)

    left = f"greater than {minimum:g}" if open_minimum else f"of at least {minimum:g}"
    return Rule(allows, f"a number {left} and {'less than' if open_maximum else 'at most'} {maximum:g}")


def one_of(choices: Collection[str], *, any_case: bool = False) -> Rule:
    """One of some words; with ``any_case`` in any case."""
    known, words = {choice.lower() if any_case else choice for choice in choices}, f"one of {', '.join(choices)}"
    return Rule(lambda value: isinstance(value, str) and (value.lower() if any_case else value) in known, words)


def only(value: object, reason: str) -> Rule:
    """One value, because no other one works here."""
    words = "~" if value is None else repr(value)
    return Rule(lambda given: type(given) is type(value) and given == value, f"{words} ({reason})")


def or_none(rule: Rule) -> Rule:
    """What ``rule`` allows, and ``~``."""
    return Rule(lambda value: value is None or rule.allows(value), f"{rule.words}, or ~")


def either(first: Rule, second: Rule) -> Rule:
    """What one of two rules allows."""
    return Rule(lambda value: first.allows(value) or second.allows(value), f"{first.words}, or {second.words}")


def list_of(rule: Rule, length: int | None = None, words: str | None = None) -> Rule:
    """A list, not empty, of what ``rule`` allows; without a ``length``, none of it twice in whatever case."""

    def allows(value: Any) -> bool:
        if not isinstance(value, list) or not value or not all(map(rule.allows, value)):
            return False
        return len(value) == (length or len({str(entry).lower() for entry in value}))

    return Rule(allows, words or f"a list {f'of {length} ' if length else ''}in which each is {rule.words}")


def subset_of(choices: Collection[str]) -> Rule:
    """A list out of some words, none of them twice; the empty list too."""
    some = list_of(one_of(choices))
    return Rule(lambda value: value == [] or some.allows(value), f"a list out of [{', '.join(choices)}], none twice")


def mapping_of(keys: Rule, values: Rule, words: str) -> Rule:
    """A mapping whose keys and values two rules allow."""

    def allows(value: Any) -> bool:
        return isinstance(value, Mapping) and all(map(keys.allows, value)) and all(map(values.allows, value.values()))

    return Rule(allows, words)


def matches(pattern: str, words: str) -> Rule:
    """A text that a regular expression matches as a whole."""
    return Rule(lambda value: TEXT.allows(value) and re.fullmatch(pattern, value, re.ASCII) is not None, words)


def _is_path(value: Any) -> bool:
    return TEXT.allows(value) and all(len(part.encode()) <= 200 for part in Path(value).parts)


def _is_folder(value: Any) -> bool:
    """Whether a path is a folder or can become one: what exists of it is a folder."""
    try:
        path = Path(value).absolute() if _is_path(value) else None
        return path is not None and next(p for p in (path, *path.parents) if p.is_symlink() or p.exists()).is_dir()
    except OSError:
        return False


def _is_interval(value: Any) -> bool:
    """Whether RecBole reads a text as intervals: ``[5,inf)``, or several with ``;`` between them."""
    bound = r"\s*(-?(?:\d+(?:\.\d*)?(?:e\d+)?|inf))\s*"
    parts = value.split(";") if TEXT.allows(value) else [""]
    found = [re.fullmatch(rf"\s*[\[(]{bound},{bound}[\])]\s*", part, re.ASCII) for part in parts]
    return all(match is not None and float(match[1]) <= float(match[2]) for match in found)


def _is_encoding(value: Any) -> bool:
    try:
        return isinstance(value, str) and "a:\t1\n".encode(value).decode(value) == "a:\t1\n"
    except (LookupError, ValueError):
        return False


def _is_split(value: Any) -> bool:
    """Whether this is one of the splits that `data.splits` makes."""
    parts = value.get("TS") if isinstance(value, Mapping) and len(value) == 1 else None
    if parts is None:
        return value in ({"LS": "valid_and_test"}, {"SS": "valid_and_test"})
    if not isinstance(parts, list) or not all(map(_MOMENT.allows, parts)):
        return False
    return len(parts) == 3 or (len(parts) == 2 and parts[0] < parts[1])


TRUE_OR_FALSE = Rule(lambda value: isinstance(value, bool), "True or False")
TEXT = Rule(
    lambda value: isinstance(value, str) and len(value) <= 1000 and not re.search("[\0\ud800-\udfff]", value),
    "a text of at most 1,000 characters, all of which UTF-8 can write",
)
FIELD = Rule(
    lambda value: isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable() and ":" not in value,
    "a name of 1 to 100 printable characters without a colon",
)
MAPPING = Rule(lambda value: isinstance(value, Mapping), "a mapping of keys to values")
PATH = Rule(_is_path, "a path")
FILE = Rule(lambda value: _is_path(value) and Path(value).is_file(), "the path of a file")
FOLDER = Rule(_is_folder, "the path of a folder, or of one that can be made")
INTERVAL = either(
    Rule(_is_interval, "an interval such as '[5,inf)'"), list_of(number(-math.inf, math.inf), length=2, words="[5, 9]")
)
TOKENS = list_of(either(TEXT, number(-math.inf, math.inf)), words="a list of tokens")
ENCODING = Rule(_is_encoding, "an encoding that Python knows, e.g. utf-8")
_MOMENT = number(0, 10**11, open_minimum=True)
SPLIT = Rule(
    _is_split,
    "{LS: valid_and_test} (leave one out), {SS: valid_and_test} (each user's last two sessions) or {TS: [...]} "
    "with two moments in seconds, or three shares of the rows",
)
POSITIVE = number(0, open_minimum=True)
PROBABILITY = number(0, 1)
DROPOUT = number(0, 1, open_maximum=True)
