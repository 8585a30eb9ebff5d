"""What the converters' tests share: the real rows if they are there, and a command line that is watched."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from recbole_session.converters.engine import create_raw_table, load_file, open_database
from recbole_session.converters.lines import LineCheck

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def ml_1m_part():
    """Real ML-1M rows of users 1 to 2999, which may not be copied into the repository."""
    shared = Path(os.environ.get("RECBOLE_SESSION_SHARED", ROOT.parent / "shared"))
    path = shared / "data" / "ml-1m-part" / "ratings.dat.gz"
    if not path.is_file():
        pytest.skip("the real ML-1M rows are not here")
    return path


@pytest.fixture
def refused(cli, tmp_path):
    """Run the command line, expect one sentence and exit code 2 and nothing written; return the sentence."""

    def run(*argv):
        code, _, errors = cli(*argv)
        assert code == 2, errors
        assert errors.startswith("recbole-session: ")
        assert errors.count("\n") == 1
        assert "Traceback" not in errors
        assert not (tmp_path / "atomic_data").exists()
        return errors

    return run


class Loaded(NamedTuple):
    """What a reader made of a file: columns of users, items, ratings, times and lines, and the malformed lines."""

    columns: list
    bad: list
    good: int


@pytest.fixture
def load(tmp_path):
    """Read a file into a database as a conversion does; lines are counted as if none were blank or malformed."""

    def read(make_reader, path, policy="skip"):
        check = LineCheck(path.name, policy)
        reader = make_reader(check)
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        with open_database(scratch) as connection:
            create_raw_table(connection, reader)
            load_file(connection, reader, scratch, check)
            names = "user_id, item_id, rating, seconds, rowid, own_session"
            rows = connection.execute(f"SELECT {names} FROM raw WHERE user_id IS NOT NULL ORDER BY rowid").fetchall()
        check.finish()
        return Loaded([list(column) for column in zip(*rows, strict=True)], check.first, check.good)

    return read
