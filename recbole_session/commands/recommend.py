"""``recbole-session recommend``: a file of answers for a file of histories, or for everyone in the dataset."""

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from recbole_session.errors import InputError
from recbole_session.files import replacing

if TYPE_CHECKING:
    from recbole_session.inference.histories import Request

MAX_BATCH_SIZE = 1_000_000
HELP = "recommend with a trained model, for a file of histories or for all users of its dataset"
EXAMPLES = [
    "recommend --run RUN_FOLDER --output top.csv",
    "recommend --run RUN_FOLDER --histories histories.csv --output top.jsonl --k 20",
]


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which model answers, where its dataset lies, and at which point of time to answer."""
    parser.add_argument("--run", dest="run_folder", type=Path, required=True, help="folder of a trained model")
    parser.add_argument("--data_path", type=Path, help="folder of the dataset's folder (default: the run's)")
    at = "of the dataset: after all that a user did (default), or at the run's test position"
    parser.add_argument("--at", choices=["end", "test"], default="end", help=at)
    parser.add_argument("--now", help="moment of the answer, seconds (UTC) or ISO 8601 (default: unknown)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_question_arguments(parser)
    parser.add_argument("--histories", type=Path, help=".csv or .jsonl of histories (default: the run's dataset)")
    parser.add_argument("--output", type=Path, required=True, help=".csv, .jsonl or .parquet")
    session = "whether the next item opens a session (default: by the silence before --now)"
    parser.add_argument("--new_session", choices=["auto", "yes", "no"], default="auto", help=session)
    parser.add_argument("--k", type=int, default=10, help="items per user (default: 10)")
    parser.add_argument("--include_seen", action="store_true", help="items of the history may come again")
    parser.add_argument("--among", type=Path, help="text file of raw item ids, one a line: recommend only these")
    parser.add_argument("--batch_size", type=int, default=256, help="histories per forward pass (default: 256)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")


def run(arguments: argparse.Namespace) -> None:
    """Answer batch by batch; the output takes its name when it is whole."""
    from recbole_session.inference.answers import FORMATS, answer_writer
    from recbole_session.inference.recommender import load

    if not 1 <= arguments.batch_size <= MAX_BATCH_SIZE:
        raise InputError(f"batch_size is {arguments.batch_size}; allowed: 1 to {MAX_BATCH_SIZE:,}, e.g. 256")
    kind = arguments.output.suffix
    if kind not in FORMATS:
        raise InputError(f"output ends in {kind!r}; allowed: {', '.join(FORMATS)}")
    for name in ("histories", "among"):
        source = getattr(arguments, name)
        if source is not None and source.resolve() == arguments.output.resolve():
            raise InputError(f"output is {arguments.output}, the file of --{name}; name another")
    among = read_among(arguments.among) if arguments.among else None
    facts: Counter[str] = Counter()
    with replacing(arguments.output) as temporary:
        recommender = load(arguments.run_folder, device=arguments.device)
        recommender.batch_size = arguments.batch_size
        requests, total = find_requests(arguments)
        with (
            answer_writer(temporary, kind, titled=bool(recommender.vocabulary.titles)) as write,
            tqdm(total=total, unit=" histories", disable=None) as progress,
        ):
            while batch := list(islice(requests, arguments.batch_size)):
                answers = recommender.answer(batch, arguments.k, not arguments.include_seen, among)
                write([(str(request.user), answer) for request, answer in zip(batch, answers, strict=True)])
                facts.update(histories=len(answers), skipped=sum(answer.skipped for answer in answers))
                facts.update(popular=sum(answer.source == "popular" for answer in answers))
                progress.update(len(answers))
    print(
        f"{arguments.output}: {facts['histories']:,} histories; {facts['skipped']:,} events of unknown items were left "
        f"out; {facts['popular']:,} histories held no known item and got the most popular ones"
    )


def find_requests(arguments: argparse.Namespace) -> tuple["Iterator[Request]", int | None]:
    """Return the histories that the flags ask for, and how many they are, if that is known."""
    from recbole_session.inference.histories import to_second
    from recbole_session.inference.questions import dataset_requests, positions, read_requests
    from recbole_session.run.run import Run

    now = None if arguments.now is None else to_second(arguments.now, "now")
    new_session: Any = {"auto": "auto", "yes": True, "no": False}[arguments.new_session]
    if arguments.histories is not None:
        if arguments.at == "test":
            raise InputError("--at=test is a position in the run's dataset; leave out --at or --histories")
        return read_requests(arguments.histories, now, new_session), None
    if arguments.at == "test" and (now is not None or new_session != "auto"):
        raise InputError(
            "--at=test takes the moment and the session from the dataset; leave out --now and --new_session"
        )
    dataset = Run(arguments.run_folder).dataset(arguments.data_path, may_differ=True)
    return dataset_requests(dataset, arguments.at, now, new_session), len(positions(dataset, arguments.at)[0])


def read_among(path: Path) -> list[str]:
    """Read raw item ids, one a line."""
    try:
        items = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"among {path} cannot be read: {getattr(error, 'strerror', 'not UTF-8 text')}") from error
    if not items:
        raise InputError(f"among {path} names no item; write raw item ids, one a line")
    return items
