"""``recbole-session tune``: search the hyper-parameters of a model on validation."""

import argparse
import shlex
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_session.errors import InputError, needs
from recbole_session.interrupts import Interrupted

if TYPE_CHECKING:
    import optuna

    from recbole_session.tune.search_space import Search

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
    parser.add_argument(
        "--trials", type=int, default=50, help="in all, those of other processes included (default: 50)"
    )
    parser.add_argument("--search", type=Path, metavar="SPACE.yaml", help="what to search (default: the paper's grid)")
    parser.add_argument("--sampler", choices=["tpe", "grid"], default="tpe", help="default: tpe")
    parser.add_argument("--storage", metavar="FILE", help="of the study, or a database's URL; processes share it")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after so many seconds")


def run(arguments: argparse.Namespace) -> None:
    """Search, and write what was found."""
    with needs("tune", "optuna", "tune"):
        import optuna  # noqa: F401
    from recbole_session.config.values import parse_command_line
    from recbole_session.files import check_writable
    from recbole_session.tune import output, tuning

    for name in ("trials", "timeout"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; allowed: a number above 0")
    keys = parse_command_line(arguments.keys)
    config_files = str(keys.pop("config_files", "")).split()
    search = _search(arguments, config_files, keys)
    folder = Path(search.config["checkpoint_dir"]) / search.dataset / f"tuning-{search.config['model']}"
    storage = arguments.storage or str(folder / "study.db")
    study = tuning.open_study(search, storage)
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(*(folder / name for name in output.FILES))
    print(f"{storage}: {len(study.trials)} trials are there already; searching {', '.join(search.space)}", flush=True)
    try:
        tuning.tune(study, search, arguments.trials, arguments.timeout)
    except Interrupted as signal:
        _write(study, search, folder, config_files, keys)
        command = shlex.join(["recbole-session", *arguments.argv])
        raise Interrupted(f"{signal}; resume with: {command}", signal.number) from None
    _write(study, search, folder, config_files, keys)


def _search(arguments: argparse.Namespace, config_files: list[str], keys: Mapping[str, Any]) -> "Search":
    """Read and check all that the search is made of."""
    from recbole_session.compare.resolving import check_names
    from recbole_session.config.session_config import SessionConfig
    from recbole_session.config.values import deep_merge, read_yaml_file
    from recbole_session.tune.search_space import PAPER_SPACE, Search, check_space, grid_of, read_space

    check_names(keys, _OPTIONS, arguments.dataset)
    shared: dict[str, Any] = reduce(deep_merge, (*map(read_yaml_file, config_files), keys), {})
    config = SessionConfig(arguments.model, arguments.dataset, config_dict=shared)
    for key in config.unused_keys:
        if key in keys:
            raise InputError(f"--{key} is given, but {config['model']} does not read it; leave it out")
    source = arguments.search or PAPER_SPACE
    space = check_space(read_space(source), str(source), config, keys)
    if arguments.sampler == "grid":
        grid_of(space)
    shared = {key: value for key, value in shared.items() if key not in config.unused_keys}
    return Search(arguments.dataset, {**shared, "model": config["model"]}, config, space, arguments.sampler)


def _write(
    study: "optuna.Study", search: "Search", folder: Path, config_files: list[str], keys: Mapping[str, Any]
) -> None:
    from recbole_session.tune.output import draw_importances, importances, write_best, write_trials

    written = [write_trials(study, search, folder), write_best(study, search, folder, config_files, keys)]
    shares = importances(study)
    if shares:
        print(f"importance: {', '.join(f'{key} {share:.2f}' for key, share in shares.items())}")
        picture = draw_importances(study, search.metric, folder)
        written.append(picture)
        if picture is None:
            print('importance.png was left out; pip install "recbole-session[plot]" for it')
    print(f"{folder}: {', '.join(path.name for path in written if path is not None)}")
