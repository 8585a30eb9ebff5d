"""``recbole-session`` and ``python -m recbole_session``: one program, a subcommand per job.

A subcommand is a module with ``HELP`` (one line), ``add_arguments(parser)`` and ``run(arguments)``.
It is imported only when it is asked for, so that ``convert`` never pays for torch. Where it has ``TAKES_KEYS = True``,
the arguments that the parser does not know are given to it as ``arguments.keys``, a list.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from recbole_session import __version__
from recbole_session.errors import InputError

SUBCOMMANDS = {
    name: f"recbole_session.commands.{name}"
    for name in ("convert", "stats", "train", "compare", "tune", "report", "audit", "recommend", "explain", "export")
}


def main(argv: Sequence[str] | None = None, program: str = "recbole-session") -> int:
    """Run one subcommand and return its exit code: 0 done, 2 the user's mistake, 130 Ctrl-C, 143 SIGTERM.

    Parameters
    ----------
    argv : sequence of str, optional
        By default the arguments of the process.
    program : str
        Name that messages begin with.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="recbole-session", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"recbole-session {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    for name, module_name in SUBCOMMANDS.items():
        wanted = not argv or argv[0] == name or argv[0] in ("-h", "--help")
        module = importlib.import_module(module_name) if wanted else None
        subparser = subparsers.add_parser(name, help=module.HELP if module else None, allow_abbrev=False)
        if module:
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run, takes_keys=getattr(module, "TAKES_KEYS", False))
    with suppress(ImportError):  # the extra "completion"
        importlib.import_module("argcomplete").autocomplete(parser)
    arguments, keys = parser.parse_known_args(argv)
    arguments.argv, arguments.keys = argv, keys
    if arguments.keys and not arguments.takes_keys:
        parser.error(f"unrecognized arguments: {' '.join(arguments.keys)}")
    try:
        arguments.run(arguments)
        return 0
    except InputError as error:
        code, message = 2, str(error)
    except KeyboardInterrupt as error:
        code, message = getattr(error, "exit_code", 130), str(error) or "interrupted"
    if os.environ.get("RANK", "0") == "0":  # of several processes one is enough to say it
        print(f"{program}: {message}", file=sys.stderr)
    return code
