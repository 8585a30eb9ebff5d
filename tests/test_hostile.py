"""Every file of runs, comparisons and datasets, damaged at random: one sentence, or the right result.

``RECBOLE_SESSION_EXAMPLES=200`` multiplies the number of cases.
"""

import contextlib
import csv
import io
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_session.cli import main
from recbole_session.compare import comparing
from recbole_session.report import tidy
from tests.conftest import TINY_MODEL, random_rows, tree
from tests.hostile import SPOIL, examples

SECONDS = 120  # a bound for a command that takes less than one, on a machine that does much else
KEYS = {
    **TINY_MODEL,
    "data_path": "data",
    "checkpoint_dir": "saved",
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "num_negatives": 5,
    "topk": [10],
    "metrics": ["ndcg"],
    "eval_candidates": ["random", "own.csv"],
}
RUN, SECOND, COMPARISON, DATA = "saved/toy/run", "saved/toy/second", "saved/toy/comparison-mine", "data/toy"
PLAN = """\
baseline: plain
seeds: 1
runs:
- {name: plain, model: SessionBERT4Rec, session_features: []}
- {name: other, model: SessionBERT4Rec, session_features: [ST]}
"""
TRAIN = ["train", "--model=SessionBERT4Rec", "--dataset=toy", *(f"--{key}={json.dumps(KEYS[key])}" for key in KEYS)]


def in_this_process(function: Callable[..., None], calls: Iterator[tuple[object, ...]], *_: object) -> Iterator[object]:
    """Stand in for `run_calls`."""
    for number, call in enumerate(calls):
        function(*call)
        yield number, None, ""


def command(*argv: str) -> tuple[int, str, str]:
    """Exit code, and what went to standard output and to standard error."""
    out, errors = io.StringIO(), io.StringIO()

    def too_long(*_: object) -> None:
        raise TimeoutError(f"{argv} takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(argv)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return code, out.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dataset, a comparison of two audited runs of it, and what the commands make of them; all paths are relative."""
    base = tmp_path_factory.mktemp("hostile")
    (base / DATA).mkdir(parents=True)
    rows = random_rows(n_users=8, n_items=20)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    (base / DATA / "toy.inter").write_text("\n".join(lines) + "\n")
    items = sorted({row[1] for row in rows})
    (base / DATA / "toy.item").write_text(
        "item_id:token\ttitle:token\tyear:float\n" + "".join(f"{item}\tThe {item}\t1999\n" for item in items)
    )
    (base / DATA / "dataset.json").write_text(json.dumps({"dataset": "toy", "output": {"rows": len(rows)}}))
    users = sorted({row[0] for row in rows})
    own = [f"{user},{items[place]}" for user in users for place in (0, 5)]
    (base / "own.csv").write_text("user_id,item_id\n" + "\n".join(own) + "\n")
    (base / "histories.csv").write_text("user_id,item_id,timestamp\nu1,i1,5\nu1,i2,200000\nu2,i3,1\n")
    (base / "mine.yaml").write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setattr(comparing, "run_calls", in_this_process)
        for name in ("N_RESAMPLES", "FEWER_RESAMPLES"):
            patch.setattr(tidy, name, 20)
        keys = [f"--{key}={json.dumps(value)}" for key, value in KEYS.items()]
        assert command("compare", "--dataset=toy", "--plan=mine.yaml", *keys)[0] == 0
        first, second = sorted(path.parent.name for path in base.glob("saved/toy/*/result.json"))
        # Names without a clock; names of the same length, so that no byte moves.
        for old, new in ((first, "run"), (second, "second")):
            (base / "saved/toy" / old).rename(base / "saved/toy" / new)
            runs = base / COMPARISON / "runs.json"
            runs.write_text(runs.read_text().replace(f"../{old}", f"../{new}"))
        yield base


def answers(folder: Path) -> object:
    """What `recommend` wrote: its items are those of the vocabulary."""
    with (folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = set(json.loads((folder / RUN / "vocabulary.json").read_text())["items"])
    assert {row["item_id"] for row in rows} <= known
    return [(row["user_id"], row["item_id"], row["rank"]) for row in rows]


def metrics(folder: Path) -> object:
    """What a run found."""
    return json.loads((folder / RUN / "result.json").read_text())["test"]


def trained(folder: Path) -> object:
    """What the new run found."""
    (result,) = (path for path in folder.glob("saved/toy/SessionBERT4Rec*/result.json"))
    return json.loads(result.read_text())["test"]


def audited(folder: Path) -> object:
    """What the audit of a run found."""
    content = json.loads((folder / RUN / "context.json").read_text())
    return [content[name] for name in ("told", "inferred", "withheld")]


def table(folder: Path) -> object:
    """What a report says of every row."""
    path = folder / "report/significance.csv"
    if not path.exists():  # no run is left to report
        return []
    with path.open(newline="") as file:
        return [[row[name] for name in ("candidates", "metric", "mean")] for row in csv.DictReader(file)]


def printed(folder: Path) -> object:
    """What a command printed."""
    return (folder / "printed").read_text()


# By name: a command, the file that must be missing for it to do its work, what it writes, and what comes out of it.
COMMANDS = {
    "recommend": (
        ["recommend", f"--run={RUN}", "--histories=histories.csv", "--output=out.csv"],
        "",
        "out.csv",
        answers,
    ),
    "recommend all": (["recommend", f"--run={RUN}", "--output=out.csv"], "", "out.csv", answers),
    "audit": (["audit", RUN], f"{RUN}/context.json", RUN, audited),
    "audit again": (["audit", RUN], "", RUN, printed),
    "report": (["report", COMPARISON, "--output=report", "--data_path=nowhere"], "", "report", table),
    "report of runs": (["report", RUN, SECOND, "--output=report", "--data_path=nowhere"], "", "report", table),
    "resume": (["train", f"--resume={RUN}"], f"{RUN}/result.json", RUN, metrics),
    "train": (TRAIN, "", "saved/toy", trained),
    "stats": (["stats", "toy", "--data_path=data"], "", "", printed),
}


def same(found: object, expected: object) -> bool:
    return found == expected


def part(found: list[object], expected: list[object]) -> bool:
    return not Counter(map(str, found)) - Counter(map(str, expected))


def any_(found: object, expected: object) -> bool:
    return True


# A file, how it is damaged, which command reads it then, and how what comes out, if it is not refused, relates to what
# comes out of the whole file.
CASES = [
    ("RUN/best.pth", "bytes", "recommend", same),
    ("RUN/best.pth", "values", "recommend", any_),
    ("RUN/best.pth", "values", "audit", same),
    ("RUN/last.pth", "bytes", "resume", same),
    ("RUN/last.pth", "values", "resume", any_),
    ("RUN/vocabulary.json", "bytes", "recommend", any_),
    ("RUN/vocabulary.json", "values", "recommend", any_),
    ("RUN/config.yaml", "bytes", "resume", same),
    ("RUN/config.yaml", "values", "resume", same),
    ("RUN/config.yaml", "bytes", "audit", same),
    ("RUN/config.yaml", "values", "audit", same),
    ("RUN/config.yaml", "values", "recommend all", any_),
    ("RUN/config.yaml", "bytes", "report", same),
    ("RUN/config.yaml", "values", "report", same),
    ("RUN/config.yaml", "values", "report of runs", same),
    ("RUN/result.json", "bytes", "audit", same),
    ("RUN/result.json", "values", "audit", same),
    ("RUN/result.json", "bytes", "report", part),
    ("RUN/result.json", "values", "report", part),
    ("RUN/ranks.csv", "bytes", "audit", same),
    ("RUN/ranks.csv", "bytes", "report", same),
    ("RUN/ranks-inferred.csv", "bytes", "report", same),
    ("RUN/ranks-withheld.csv", "bytes", "audit again", same),
    ("RUN/context.json", "bytes", "audit again", any_),
    ("RUN/context.json", "values", "audit again", any_),
    ("RUN/context.json", "values", "report", same),
    ("COMPARISON/runs.json", "bytes", "report", part),
    ("COMPARISON/runs.json", "values", "report", part),
    ("COMPARISON/comparison.yaml", "bytes", "report", part),
    ("COMPARISON/comparison.yaml", "values", "report", part),
    ("own.csv", "bytes", "audit", same),
    ("own.csv", "bytes", "train", any_),
    ("DATA/toy.inter", "bytes", "audit", same),
    ("DATA/toy.inter", "bytes", "train", any_),
    ("DATA/toy.inter", "bytes", "stats", any_),
    ("DATA/toy.inter", "bytes", "recommend all", any_),
    ("DATA/toy.item", "bytes", "train", same),
    ("DATA/toy.item", "bytes", "recommend all", any_),
    ("DATA/dataset.json", "values", "stats", same),
    ("DATA/dataset.json", "bytes", "train", same),
]


@pytest.mark.parametrize(("name", "how", "command_name", "relation"), CASES)
def test_a_damaged_file_is_refused_or_does_no_harm(
    name: str,
    how: str,
    command_name: str,
    relation: Callable[[object, object], bool],
    original: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv, missing, writes, outcome = COMMANDS[command_name]
    for short, path in {"RUN": RUN, "COMPARISON": COMPARISON, "DATA": DATA}.items():
        name = name.replace(short, path)
    place = tmp_path / "place"

    def run(spoil: Callable[[Path], None]) -> tuple[int, str, object]:
        """Damage a file of a fresh copy and use it; look at what was written."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(original, place)
        monkeypatch.chdir(place)
        if missing:
            (place / missing).unlink()
        spoil(place / name)
        before = tree(place)
        code, out, errors = command(*argv)
        after = tree(place)
        touched = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
        assert all(writes and path.startswith(writes) for path in touched), touched
        assert not [path for path in after if path.endswith(".tmp")]
        (place / "printed").write_text(out)
        return code, errors, outcome(place) if code == 0 else touched

    code, errors, expected = run(lambda path: None)
    assert (code, errors) == (0, "")

    @examples(5)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        code, errors, found = run(lambda path: SPOIL[how](path, data))
        if code == 0:
            assert relation(found, expected)
        else:
            assert code == 2
            assert errors.startswith("recbole-session: ") and errors.count("\n") == 1 and errors[:-1].isprintable()
            assert not [path for path in found if not path.startswith(RUN)], found

    check()
