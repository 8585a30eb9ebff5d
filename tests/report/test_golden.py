"""The report of a comparison made by hand gives the numbers that the first version gave, see `first_comparison`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_session.cli import main
from tests.report.first_comparison import ROWS, write_checksums, write_comparison

GOLDEN = Path(__file__).with_name("golden")
CELL = ["row", "candidates", "metric"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_comparison(tmp_path_factory.mktemp("golden"))
    write_checksums(folder)
    assert main(["report", str(folder)]) == 0
    return folder


def read(path):
    return pd.read_csv(path, keep_default_na=True)


def test_the_metrics_table(folder):
    pd.testing.assert_frame_equal(read(folder / "table.csv"), read(GOLDEN / "table.csv"))


@pytest.mark.parametrize("file", ["table.md", "table.tex"])
def test_the_rows_as_printed(folder, file):
    """Rows and marks to the letter; the wording of the legend may change."""
    rows = [
        [
            line
            for line in (place / file).read_text(encoding="utf-8").splitlines()
            if line.lstrip("| ").startswith(names)
        ]
        for place in (folder, GOLDEN)
        for names in [(*ROWS, "model", r"\multicolumn", r"\cmidrule", "[^")]
    ]
    assert len(rows[0]) >= len(ROWS) + 1
    assert rows[0] == rows[1]


def test_significance(folder):
    ours, first = (read(place / "significance.csv").set_index(CELL) for place in (folder, GOLDEN))
    pd.testing.assert_frame_equal(ours[list(first)], first, check_dtype=False)


def test_slices(folder):
    """The first version had targets without training rows in one slice with rare ones: ``0 to 3``."""
    ours, first = (read(place / "slices.csv") for place in (folder, GOLDEN))
    first = first.rename(columns={"ci_low": "difference_ci_low", "ci_high": "difference_ci_high"})
    are_cut = [
        (frame["fact"] == "popularity") & frame["slice"].isin(["0", "1 to 3", "0 to 3"]) for frame in (ours, first)
    ]
    joined = ours[are_cut[0]].assign(mean=lambda part: part["mean"] * part["users"]).groupby(CELL)[["mean", "users"]]
    pd.testing.assert_series_equal(
        joined.sum().eval("mean / users"), first[are_cut[1]].groupby(CELL)["mean"].sum(), check_names=False, atol=1e-6
    )
    keys = ["fact", "slice", *CELL]
    ours, first = ours[~are_cut[0]].set_index(keys), first[~are_cut[1]].set_index(keys)
    assert ours.index.tolist() == first.index.tolist()
    pd.testing.assert_frame_equal(ours[list(first)], first)


@pytest.mark.parametrize("context", ["told", "inferred", "withheld"])
def test_contexts(folder, context):
    ours = read(folder / "context.csv").set_index(["context", *CELL]).loc[context]
    first = read(GOLDEN / "context.csv").set_index(CELL)
    names = {context: "mean", f"gain_{context}": "difference", f"kept_{context}": "kept"}
    names |= {f"gain_{context}_{end}": f"difference_ci_{end}" for end in ("low", "high")}
    first = first.rename(columns=names)[[new for old, new in names.items() if old in first]]
    assert first["difference"].notna().any()
    pd.testing.assert_frame_equal(ours[list(first)], first)
    assert np.isfinite(ours["mean"]).all()
