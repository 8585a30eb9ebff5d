"""``recbole-session tune``: search the hyper-parameters of a model on validation."""

import argparse
from pathlib import Path

from recbole_session.errors import InputError, needs
from recbole_session.interrupts import Interrupted

HELP = "search hyper-parameters on validation: the paper's grid, or a space of your own"
EXAMPLES = ["tune --dataset ml-100k --trials 20", "tune --dataset=ml-100k --search=space.yaml --timeout=3600"]
TAKES_KEYS = True
_OPTIONS = ("dataset", "model", "trials", "search", "sampler", "storage", "timeout", "config_files")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.usage = (
        'recbole-session tune --dataset=NAME --model=NAME [options] [--config_files="a.yaml b.yaml"] [--key=value ...]'
    )
    parser.epilog = "--key=value sets any key of run_recbole_session.py that is not searched."
    parser.add_argument("--dataset", required=True, help="name of a folder in data_path")
    parser.add_argument("--model", default="SessionBERT4Rec", help="default: SessionBERT4Rec")
    parser.add_argument("--trials", type=int, default=50, help="in all, other processes' included (default: 50)")
    parser.add_argument("--search", type=Path, metavar="SPACE.yaml", help="what to search (default: the paper's grid)")
    parser.add_argument("--sampler", choices=["tpe", "grid"], default="tpe", help="default: tpe")
    parser.add_argument("--storage", metavar="FILE", help="of the study, or a database's URL; processes share it")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after so many seconds")


def run(arguments: argparse.Namespace) -> None:
    """Search, and write what was found."""
    with needs("tune", "optuna", "tune"):
        import optuna  # noqa: F401
    from recbole_session.compare.resolving import check_names
    from recbole_session.config.values import parse_command_line
    from recbole_session.files import check_writable
    from recbole_session.tune import output, tuning
    from recbole_session.tune.search_space import PAPER_SPACE, read_search

    for name in ("trials", "timeout"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; allowed: a number above 0")
    keys = parse_command_line(arguments.keys)
    config_files = str(keys.pop("config_files", "")).split()
    check_names(keys, _OPTIONS, arguments.dataset)
    names = {"model": arguments.model, "dataset": arguments.dataset}
    search = read_search(names, config_files, keys, arguments.search or PAPER_SPACE, arguments.sampler)
    folder = Path(search.config["checkpoint_dir"], search.config["dataset"], f"tuning-{search.config['model']}")
    storage = arguments.storage or str(folder / "study.db")
    study = tuning.open_study(search, storage)
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(*(folder / name for name in output.FILES))
    print(f"{storage}: {len(study.trials)} trials are there already; searching {', '.join(search.space)}", flush=True)
    try:
        tuning.tune(study, search, arguments.trials, arguments.timeout)
    except Interrupted as signal:
        output.write_results(study, search, folder, config_files, keys)
        raise Interrupted(f"{signal}; resume with: {arguments.command}", signal.number) from None
    output.write_results(study, search, folder, config_files, keys)
    failures = [trial.user_attrs["failure"] for trial in study.trials if "failure" in trial.user_attrs]
    if failures and output.best_trial(study) is None:
        raise InputError(f"no trial has a result; the first that failed: {failures[0]}")
