"""Table 1's lines by hand, and the reaction to the gap."""

import pytest

from recbole_session.converters import convert
from recbole_session.data.stats import (
    GAPS,
    PAPER,
    gap_rows,
    group_sizes,
    load_sequences,
    quartiles,
    table_rows,
)
from recbole_session.errors import InputError

HEADER = "user_id:token\titem_id:token\ttimestamp:float\tsession_id:token\n"
# u: x0 y10 | x 2 h later;  v: x0 | x(8 days) y(+1 s). The second row of u comes first in the file.
ROWS = "u\ty\t10\t1\nu\tx\t0\t1\nu\tx\t7210\t2\nv\tx\t0\t3\nv\tx\t691200\t4\nv\ty\t691201\t4\n"


@pytest.fixture
def write(tmp_path):
    def write_inter(text, name="small"):
        folder = tmp_path / "atomic_data" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.inter").write_text(text)
        return folder / f"{name}.inter"

    return write_inter


def test_by_hand(write):
    data = load_sequences(write(HEADER + ROWS))
    sizes = group_sizes(data)
    assert sizes.rows_per_user.tolist() == [3, 3]
    assert sizes.sessions_per_user.tolist() == [2, 2]
    assert sizes.rows_per_session.tolist() == [2, 1, 1, 2]
    assert sizes.gaps.tolist() == [10, 7200, 691200, 1]
    assert table_rows(data) == [
        ("#users", "2"),
        ("#items", "2"),
        ("#rows", "6"),
        ("density", "150.00%"),
        ("item/user Q1/Q2/Q3", "3/3/3"),
        ("session/user Q1/Q2/Q3", "2/2/2"),
        ("item/session Q1/Q2/Q3", "1/1.5/2"),
    ]


def test_the_gap(write):
    lines = {line[0]: line[1:] for line in gap_rows(load_sequences(write(HEADER + ROWS)))}
    assert list(lines) == list(GAPS)
    assert lines["1 h"] == ("4", "2/2/2", "1/1.5/2", "0")
    assert lines["3 h"] == ("3", "1.25/1.5/1.75", "1.5/2/2.5", "0")
    assert lines["7 days"] == ("3", "1.25/1.5/1.75", "1.5/2/2.5", "0")


def test_without_sessions_in_the_file_the_gap_makes_them(write):
    text = "".join(line.rpartition("\t")[0] + "\n" for line in (HEADER + ROWS).splitlines())
    for gap, sessions in ((3600, 4), (7200, 3), (10**6, 2)):
        data = load_sequences(write(text), gap)
        assert int(data.starts_session().sum()) == sessions


def test_users_passing(write):
    data = load_sequences(write(HEADER + "u\tx\t0\t1\nu\tx\t1\t1\nu\tx\t90000\t2\nu\tx\t90001\t2\n"))
    assert [line[-1] for line in gap_rows(data)][-4:] == ["1", "0", "0", "0"]


def test_quartiles_are_interpolated():
    assert quartiles([1, 2, 3, 4]) == "1.75/2.5/3.25"


def test_the_command_with_the_papers_column(cli, write, tmp_path):
    write(HEADER + ROWS, "ml-1m")
    picture = tmp_path / "x.png"
    pytest.importorskip("matplotlib")
    code, output, _ = cli("stats", "ml-1m", "--plot", picture)
    assert code == 0
    first = [line.split() for line in output.splitlines()[:8]]
    assert first[0] == ["ml-1m", "here", "paper"]
    assert [line[-1] for line in first[1:]] == list(PAPER["ml-1m"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    drawn = picture.read_bytes()
    cli("stats", "ml-1m", "--plot", picture)
    assert picture.read_bytes() == drawn


def test_the_command_without_a_column_of_the_paper(cli, tmp_path):
    convert("ml-100k", None, tmp_path / "atomic_data")
    code, output, _ = cli("stats", "ml-100k")
    assert code == 0
    assert "paper" not in output
    assert "#users                             943" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        (HEADER, "holds no rows"),
        ("user_id:token\titem_id:token\nu\tx\n", "no column timestamp"),
        (HEADER.replace("timestamp:float", "timestamp:token") + ROWS, "write timestamp:float"),
        (HEADER + "u\tx\tnoon\t1\n", "line 2: timestamp is 'noon'"),
        (HEADER + ROWS + "a\tb\tc\td\te\tf\n", "line 8 has 6 columns; the header names 4"),
        (HEADER + ROWS + "a\tb\n", "line 8 has 2 columns"),
    ],
)
def test_refused(write, tmp_path, text, message):
    path = write(text) if text is not None else tmp_path / "none.inter"
    with pytest.raises(InputError, match=message):
        load_sequences(path)


def test_a_picture_that_cannot_be_written(cli, write, tmp_path):
    pytest.importorskip("matplotlib")
    write(HEADER + ROWS)
    for path, words in ((tmp_path / "no" / "x.png", "there is no folder"), (tmp_path / "x.no", "cannot be written")):
        code, _, errors = cli("stats", "small", "--plot", path)
        assert code == 2
        assert words in errors
        assert not path.exists()
    assert cli("stats", "small", "--session_gap", "-1")[0] == 2
