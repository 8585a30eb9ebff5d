"""Names from a stranger's run folder or plan are shown as they are, and are nothing more in any file."""

import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from recbole_session.compare.runs import Comparison
from recbole_session.report.report import write_report
from recbole_session.report.tables import csv_text, latex, markdown, printable

NAMES = {
    "latex": "a\n\\input{/etc/passwd}\r\u2028\\b",
    "html": "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "link": "[here](javascript:alert(3)) `code` **bold** _em_",
    "terminal": "\x1b[31mred\x07\u202e",
    "formula": "=HYPERLINK(1)",
}


@pytest.fixture
def folder(make_run, tmp_path):
    """A report in which every name that a stranger can choose is hostile."""
    runs = [
        make_run(
            name, {"all": [place + 1, 2, 30]}, dataset=NAMES["html"],
            environment={"device": "cpu", "threads": 1, NAMES["html"]: NAMES["link"]},
            config={"num_negatives": NAMES["html"], "valid_metric": NAMES["link"], "valid_candidates": "```"},
        )
        for place, name in enumerate(NAMES.values())
    ]  # fmt: skip
    failures = {(NAMES["latex"], 1): NAMES["latex"], ("gone", 1): NAMES["html"]}
    comparison = Comparison(
        NAMES["link"], NAMES["html"], (*NAMES.values(), "gone"), NAMES["html"], tuple(runs), failures
    )
    settings = {NAMES["html"]: NAMES["html"]}
    comparison = replace(comparison, sweep_key=NAMES["html"], sweep_values={NAMES["latex"]: 1}, settings=settings)
    write_report(comparison, tmp_path / "report")
    return tmp_path / "report"


def test_latex_keeps_names_in_their_line(folder):
    text = (folder / "table.tex").read_text(encoding="utf-8")
    assert "passwd" in text
    for line in text.splitlines():
        assert line.startswith("%") or "\\input" not in line
        assert "\x1b" not in line


def test_markdown_has_no_html_or_links_of_names(folder):
    for file in ("table.md", "report.md", "costs.md"):
        text = (folder / file).read_text(encoding="utf-8")
        outside = re.sub(r"(?ms)^(`{3,})yaml$.*?^\1$", "", text)
        assert "&lt;img" in outside
        assert not re.findall(r"<(?!/?u>|br>| )", outside)
        assert "](" not in outside
        assert "\x1b" not in text
    fences = re.findall(r"(?m)^`{3,}", (folder / "report.md").read_text(encoding="utf-8"))
    assert fences == ["````", "````"]  # longer than what is between them


def test_the_page_has_no_tags_of_names(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;img src=x" in text
    assert "<img" not in text
    assert text.count("<script") == 2
    assert text.count("</script>") == 2


def test_csv_names_are_read_back_as_they_are(folder):
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        names = [row[0] for row in csv.reader(file)]
    assert names[1:] == [*NAMES.values(), "gone"]


def test_the_terminal_gets_no_control_characters():
    assert printable(NAMES["terminal"]) == "[31mred"
    assert markdown("a\x1b]0;title\x07b") == "a]0;titleb"


def test_names_at_the_start_of_a_line_of_latex():
    assert [latex(name) for name in ("[ST] 50%", "*", "a_b{}")] == ["{}[ST] 50\\%", "{}*", "a\\_b\\{\\}"]


def test_markdown_shows_what_it_is_given():
    assert (
        markdown("SessionBERT4Rec [ST, SSE], a_b = 1 & p < 0.05") == "SessionBERT4Rec [ST, SSE], a_b = 1 &amp; p < 0.05"
    )
    assert markdown("_a_ <b> |\\| ~~c~~") == "\\_a\\_ &lt;b&gt; \\|\\\\\\| \\~\\~c\\~\\~"


def test_safe_csv_holds_no_formulas():
    frame = pd.DataFrame({"row": ["=1+1", "+a", "-b", "@c", "\td", "plain"], "=mean": [-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    safe = pd.read_csv(io.StringIO(csv_text(frame, safe=True)))
    assert list(safe) == ["row", "'=mean"]
    assert safe["row"].tolist() == ["'=1+1", "'+a", "'-b", "'@c", "'\td", "plain"]
    assert safe["'=mean"].tolist() == frame["=mean"].tolist()  # numbers stay numbers
    assert csv_text(frame).splitlines()[1].startswith("=1+1,")
