"""``recbole-session explain``: a picture and a table for one user of the run's dataset."""

import argparse
from pathlib import Path

from recbole_session.commands.recommend import add_question_arguments
from recbole_session.errors import InputError
from recbole_session.files import check_writable, replacing

HELP = "show why a trained model recommends what it does to one user"
EXAMPLES = ["explain --run RUN_FOLDER --user 196"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_question_arguments(parser)
    parser.add_argument("--user", required=True, help="raw id of a user of the run's dataset")
    output = "the picture, .png; the table goes beside it as .md (default: RUN_FOLDER/explain-USER.png)"
    parser.add_argument("--output", type=Path, help=output)
    parser.add_argument("--k", type=int, default=10, help="length of the lists (default: 10)")


def run(arguments: argparse.Namespace) -> None:
    """Write the picture and the table, both or none, and print the table."""
    from recbole_session.errors import nearest
    from recbole_session.inference.explain_picture import draw_explanation
    from recbole_session.inference.explanation import explain, explanation_table
    from recbole_session.inference.histories import to_second
    from recbole_session.inference.questions import dataset_requests
    from recbole_session.inference.recommender import load
    from recbole_session.report.tables import printable
    from recbole_session.run.run import Run

    path = arguments.output or arguments.run_folder / f"explain-{Path(arguments.user).name}.png"
    if path.suffix != ".png":
        raise InputError(f"output is {path}; it must end in .png")
    if arguments.k < 1:
        raise InputError(f"k is {arguments.k}; allowed: a whole number from 1, e.g. 10")
    if arguments.at == "test" and arguments.now is not None:
        raise InputError("--at=test takes the moment from the dataset; leave out --now")
    check_writable(path, path.with_suffix(".md"))
    recommender = load(arguments.run_folder)
    dataset = Run(arguments.run_folder).dataset(arguments.data_path, may_differ=True)
    now = None if arguments.now is None else to_second(arguments.now, "now")
    request = next(dataset_requests(dataset, arguments.at, now, only=arguments.user), None)
    if request is None:
        known = nearest(arguments.user, recommender.vocabulary.users) or "; name a raw id of its users"
        raise InputError(f"user {arguments.user!r} has no position {arguments.at!r} in the dataset{known}")
    explanation = explain(recommender, request, arguments.k)
    with replacing(path) as picture, replacing(path.with_suffix(".md")) as text:
        draw_explanation(explanation, picture)
        text.write_text(explanation_table(explanation) + "\n", encoding="utf-8")
    print(explanation_table(explanation, printable))
    print(f"written: {path} and {path.with_suffix('.md')}")
