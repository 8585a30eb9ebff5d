"""``recbole-session`` and ``python -m recbole_session``: one program, a subcommand per job.

A subcommand is a module with ``HELP`` (one line), ``EXAMPLES``, ``add_arguments(parser)`` and ``run(arguments)``.
It is imported only when it is asked for, so that ``convert`` never pays for torch. Where it has ``TAKES_KEYS = True``,
the arguments that the parser does not know are given to it as ``arguments.keys``, a list.
"""

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress

from recbole_session import __version__
from recbole_session.errors import InputError, nearest, printable

SUBCOMMANDS = {
    name: f"recbole_session.commands.{name}"
    for name in ("convert", "stats", "train", "compare", "tune", "report", "audit", "recommend", "explain", "export")
}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that keeps line breaks and shows the defaults that the texts do not name themselves."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        is_named = "default" in text or action.required or action.default in (None, False, argparse.SUPPRESS)
        return text if is_named else f"{text} (default: %(default)s)"


def _check_names(parser: argparse.ArgumentParser, given: Sequence[str], known: Collection[str]) -> None:
    """Refuse the first option or sub-command that does not exist, with the nearest one that does."""
    for name in given:
        if name not in known:
            parser.error(f"{name!r} is unknown{nearest(name, known)}")


def main(argv: Sequence[str] | None = None, program: str = "recbole-session") -> int:
    """Run one subcommand and return its exit code: 0 done, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM.

    ``argv`` are by default the arguments of the process; messages begin with ``program``.
    """
    code, message = _run(list(sys.argv[1:] if argv is None else argv))
    if message and os.environ.get("RANK", "0") == "0":  # of several processes one is enough to say it
        print(printable(f"{program}: {message}"), file=sys.stderr)
    return code


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the arguments of one subcommand; a mistake ends the program with exit code 2.

    Beside them, the namespace holds ``run``, the subcommand's function, ``command``, what was typed, and ``keys``, the
    arguments that are keys.
    """
    parser = argparse.ArgumentParser(prog="recbole-session", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"recbole-session {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    first = argv[0] if argv else "--help"
    for name, module_name in SUBCOMMANDS.items():
        if first not in (name, "-h", "--help"):
            subparsers.add_parser(name)
            continue
        module = importlib.import_module(module_name)
        subparser = subparsers.add_parser(name, help=module.HELP, allow_abbrev=False, formatter_class=_Help)
        module.add_arguments(subparser)
        examples = ["examples:", *(f"  recbole-session {example}" for example in module.EXAMPLES)]
        subparser.epilog = "\n".join([*([subparser.epilog, ""] if subparser.epilog else []), *examples])
        takes_keys = getattr(module, "TAKES_KEYS", False)
        subparser.set_defaults(run=module.run, takes_keys=takes_keys)
        if first == name and not takes_keys:
            options = [argument.partition("=")[0] for argument in argv if argument.startswith("--")]
            _check_names(subparser, options, [*subparser._option_string_actions, "--"])
    if not first.startswith("-"):
        _check_names(parser, [first], list(SUBCOMMANDS))
    with suppress(ImportError):  # the extra "completion"
        importlib.import_module("argcomplete").autocomplete(parser)
    arguments, keys = parser.parse_known_args(argv, argparse.Namespace(command=shlex.join(["recbole-session", *argv])))
    if keys and not arguments.takes_keys:
        parser.error(printable(f"unrecognized arguments: {' '.join(keys)}"))
    arguments.keys = keys
    return arguments


def _run(argv: list[str]) -> tuple[int, str]:
    """Run a subcommand; return the exit code and what to say."""
    try:
        arguments = parse(argv)
        arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # a reader that has left is noticed here, not when the interpreter ends
    except InputError as error:
        return 2, str(error)
    except KeyboardInterrupt as error:
        return getattr(error, "exit_code", 130), str(error) or "interrupted"
    except MemoryError:
        return 2, "out of memory; lower the size of what was asked for"
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141, ""  # as a shell reports SIGPIPE
    except OSError as error:
        return 2, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return 0, ""
