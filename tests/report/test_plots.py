import re
from xml.etree import ElementTree

import pytest
from torch.utils.tensorboard import SummaryWriter

from recbole_session.report.curves import Curve, validation_curve
from recbole_session.report.plots import (
    Bar,
    Level,
    draw_bars,
    draw_curves,
    draw_differences,
    draw_sweep,
    row_style,
)

BARS = [
    Bar("plain", 0.3, 0.25, 0.35, "0.3000", is_baseline=True),
    Bar('$x_1$ <b> & "q"', 0.5, 0.45, 0.55, "0.5000†", verdict="better"),
    Bar("bad", -0.1, -0.2, -0.05, "worse", verdict="worse"),
]


def draw(kind, name):
    if kind == "bars":
        return draw_bars(name, 'Recall "at" 10', BARS)
    if kind == "differences":
        return draw_differences(name, "title", BARS)
    if kind == "curves":
        curves = {"a": [Curve([1, 2], [0.1, 0.2]), Curve([3], [0.3])], "b": [Curve([1, 3], [0.2, 0.1])]}
        return draw_curves(name, "title", curves, {"a": row_style(0, True), "b": row_style(1, False)}, "NDCG@10")
    return draw_sweep(
        name, "title", "max_session_segments", [(1, BARS[0]), (3, BARS[1])], [Level(0.2, *row_style(2, False))]
    )


@pytest.mark.parametrize("kind", ["bars", "differences", "curves", "sweep"])
def test_pictures_stand_alone_in_a_page(kind):
    text = draw(kind, "one")
    svg = ElementTree.fromstring(text)  # well-formed
    assert svg.get("role") == "img"
    assert svg.get("width") is None
    assert svg.get("viewBox")
    assert "currentColor" in text
    assert "#010203" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert all(name.startswith("one-") for name in ids)
    assert len(ids) == len(set(ids))
    assert {first or second for first, second in used} <= set(ids)
    assert not {"one"} & set(re.findall(r'\bid="(one)-', draw(kind, "two")))


@pytest.mark.parametrize("kind", ["bars", "differences", "curves", "sweep"])
def test_the_same_picture_has_the_same_bytes(kind):
    assert draw(kind, "one") == draw(kind, "one")


def test_names_are_drawn_as_they_are():
    assert '$x_1$ &lt;b&gt; &amp; "q"' in draw("bars", "one").replace("&quot;", '"')


def test_rows_are_told_apart_by_colour_and_dashes():
    styles = [row_style(place, False) for place in range(40)]
    assert len(set(styles)) == 40


def test_validation_curves_come_from_the_events(tmp_path):
    folder = tmp_path / "tensorboard"
    with SummaryWriter(str(folder)) as writer:
        for epoch, value in ((0, 0.1), (2, 0.3), (4, 0.2)):
            writer.add_scalar("Vaild_score", value, epoch, walltime=100 + epoch)
            writer.add_scalar("Loss/Train", 7.0, epoch)
    with SummaryWriter(str(folder), filename_suffix=".resumed") as writer:  # epoch 4 again, after a kill
        writer.add_scalar("Vaild_score", 0.25, 4, walltime=200)
    curve = validation_curve(tmp_path)
    assert curve.epochs == [1, 3, 5]
    assert curve.values == pytest.approx([0.1, 0.3, 0.25])


def test_no_events_are_no_curve(tmp_path):
    assert validation_curve(tmp_path) == ([], [])
    (tmp_path / "tensorboard").mkdir()
    assert validation_curve(tmp_path) == ([], [])
