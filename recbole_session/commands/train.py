"""``recbole-session train``: train and evaluate one model; the program of ``run_recbole_session.py``."""

import argparse

from recbole_session.errors import InputError

HELP = "train a model and evaluate it among random, popular and all candidates"
EXAMPLES = [
    "train --model SessionBERT4Rec --dataset ml-100k",
    'train --model=SessionBERT4Rec --dataset=ml-1m --session_features="[ST,SSE]" --seed=7',
    "train --resume=RUN_FOLDER",
    "train --model=SASRec --dataset=ml-1m --learning_rate=1e-3 --resume",
]
TAKES_KEYS = True

DESCRIPTION = """\
Trains a model, evaluates it on the test split among random, popular and all candidates, and writes a run
folder. Values are YAML, later files win over earlier ones, and the command line wins over all; docs/keys.md
lists the keys. `python run_recbole_session.py` in a clone is the same as `recbole-session train`. For two
processes: torchrun --nproc_per_node=2 -m recbole_session train --model=SASRec --dataset=ml-1m
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.usage = (
        'recbole-session train --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--key=value ...]'
    )
    parser.description = DESCRIPTION
    parser.add_argument(
        "--resume",
        nargs="?",
        action="append",
        const=True,
        metavar="RUN_FOLDER",
        help="resume this run, or without a folder the latest unfinished one with these keys",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, evaluate, and write the run folder."""
    from recbole_session.run.training import run_session

    given = arguments.resume or [False]
    if len(given) > 1:
        raise InputError("--resume is given twice; give it once")
    if given[0] == "":
        raise InputError("--resume= names no folder; write --resume=RUN_FOLDER, or --resume for the latest one")
    run_session(command_line=arguments.keys, resume=given[0])
