"""``report.html`` in a real browser: headless Chromium, where it and selenium are installed."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch.utils.tensorboard import SummaryWriter

from recbole_session.cli import main
from recbole_session.compare.runs import Comparison
from recbole_session.report.report import write_report
from tests.report.first_comparison import write_checksums, write_comparison

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs Chromium and chromedriver")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report with every part of the page but the sweep."""
    folder = write_comparison(tmp_path_factory.mktemp("page"))
    write_checksums(folder)
    for row in ("base", "better"):
        with SummaryWriter(str(folder.parent / f"{row}-1" / "tensorboard")) as writer:
            for epoch, value in ((0, 0.1), (2, 0.3)):
                writer.add_scalar("Vaild_score", value, epoch)
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture
def open_page(browser: Any) -> Open:
    """Open a page as wide as asked; returns the browser."""

    def open_(page: Path, width: int = 1400, scheme: str = "light") -> Any:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(page.as_uri())
        return browser

    return open_


def column(browser: Any, table: str, place: int = 0) -> list[str]:
    script = f"return [...document.querySelectorAll('{table} tbody tr')].map((row) => row.cells[{place}].dataset.value)"
    return browser.execute_script(script)


def choose(browser: Any, picker: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", picker)).select_by_visible_text(text)


def texts(browser: Any, selector: str) -> list[str]:
    return [node.get_attribute("textContent") for node in browser.find_elements("css selector", selector)]


@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_stays_quiet(open_page: Open, page: Path, width: int, scheme: str) -> None:
    browser = open_page(page, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # Wide tables scroll in their own boxes, and nothing else sticks out of the page.
    script = """return [...document.querySelectorAll('main *')]
        .filter((node) => !node.closest('.scroll, svg, pre') && node.getBoundingClientRect().right > innerWidth + 0.5)
        .map((node) => node.outerHTML.slice(0, 80))"""
    assert browser.execute_script(script) == []
    assert browser.get_log("browser") == []
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [each["params"]["request"]["url"] for each in requests if each["method"] == "Network.requestWillBeSent"]
    assert all(address == page.as_uri() for address in addresses)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(open_page: Open, page: Path, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG AA) for text, soft text and links."""
    browser = open_page(page, 1400, scheme)
    script = """
    const value = (name) => { const probe = document.createElement('i'); probe.style.color = `var(${name})`;
      document.body.append(probe); return getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number); };
    const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    return ['--ink', '--soft', '--accent'].flatMap((text) => ['--page', '--card', '--base'].map((ground) => {
      const [a, b] = [light(value(text)), light(value(ground))].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05); }))"""
    assert min(browser.execute_script(script)) >= 4.5


def test_any_column_sorts(open_page: Open, page: Path) -> None:
    browser = open_page(page)
    assert column(browser, "#table + .scroll") == [
        "base", "better", "worse", "single", "nearly", "broken", "absent"
    ]  # fmt: skip
    headers = browser.find_elements("css selector", "#table + .scroll th button")
    assert len(headers) == 2 + 12
    for header, place in ((headers[3], 3), (headers[1], 1)):
        header.click()
        values = column(browser, "#table + .scroll", place)
        numbers = [float(value) for value in values if value]
        assert numbers == sorted(numbers, reverse=True)
        assert not any(values[len(numbers) :])  # rows without a result come last
        assert browser.execute_script("return arguments[0].closest('th').ariaSort", header) == "descending"
        header.click()
        assert [float(value) for value in column(browser, "#table + .scroll", place) if value] == numbers[::-1]
    headers[0].click()
    headers[0].click()
    assert column(browser, "#table + .scroll") == sorted(column(browser, "#table + .scroll"))
    browser.find_element("css selector", "#slices-tables th:nth-child(2) button").click()
    assert texts(browser, "#slices-tables .scroll:nth-of-type(1) tbody th")[0] == "better"


def test_hovering_shows_the_numbers(open_page: Open, page: Path) -> None:
    browser = open_page(page)
    point = browser.find_element("css selector", "#differences-picture [data-row=better]")
    webdriver.ActionChains(browser).scroll_to_element(point).move_to_element(point).perform()
    shown = browser.find_element("id", "tip").text.splitlines()
    assert shown[:3] == ["better", "NDCG@10 among all items", "value: 0.1674"]
    assert "difference: +0.0997" in shown
    assert "95% interval: +0.0493 to +0.1590" in shown
    assert "p, users and seeds (Holm): 0.013" in shown
    curves = browser.find_element("css selector", "#curves-picture svg")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", curves)
    webdriver.ActionChains(browser).move_to_element_with_offset(curves, 1, 1).perform()
    assert "seed 1, epoch" in browser.find_element("id", "tip").text
    title = browser.find_element("css selector", "h1")
    webdriver.ActionChains(browser).scroll_to_element(title).move_to_element(title).perform()
    assert not browser.find_element("id", "tip").is_displayed()


def test_pickers_choose_metric_candidates_and_slice(open_page: Open, page: Path) -> None:
    browser = open_page(page)
    captions = texts(browser, "figcaption[data-title]")
    assert captions == ["Difference from base: NDCG@10 among all items", "Value: NDCG@10 among all items"]
    choose(browser, "candidates", "random")
    choose(browser, "metric", "Recall@10")
    choose(browser, "slice", "first item")
    ending = "Recall@10 among random items; place of the target in its session: first item"
    assert texts(browser, "#differences figcaption") == [f"Difference from base: {ending}"]
    slices = pd.read_csv(page.parent / "slices.csv").set_index(["row", "candidates", "metric", "fact", "slice"])
    line = slices.loc[("better", "random", "recall@10", "opens_session", "first item")]
    assert f"{line['mean']:.4f}" in texts(browser, "#values-picture [data-row=better] .text")
    assert f"+{line['difference']:.4f}" in texts(browser, "#differences-picture [data-row=better] .text")
    assert "Recall@10 among random items" in texts(browser, "#context + p b[data-title]")
    choose(browser, "metric", "Giniindex@10")  # not a mean over users: values only
    choose(browser, "slice", "all targets")
    assert not browser.find_element("id", "differences").is_displayed()
    assert len(texts(browser, "#values-picture [data-row]")) == 5
    assert browser.get_log("browser") == []


def test_the_zero_line_leaves_the_names_alone(open_page: Open, page: Path) -> None:
    browser = open_page(page)
    script = """
    const boxes = (selector) => [...document.querySelectorAll(selector)].map((node) => node.getBoundingClientRect());
    return boxes('#differences-picture .name').some((name) => boxes('#differences-picture .zero').some((line) =>
      line.top < name.bottom - 0.5 && line.bottom > name.top + 0.5))"""
    assert browser.execute_script("return document.querySelectorAll('#differences-picture .zero').length") == 4
    assert not browser.execute_script(script)


def test_links_lead_to_the_run_folders(open_page: Open, page: Path) -> None:
    browser = open_page(page)
    links = [node.get_attribute("href") for node in browser.find_elements("css selector", "#costs + .scroll td a")]
    assert links[:3] == [f"{(page.parent.parent / f'base-{seed}').as_uri()}/" for seed in (1, 2, 3)]


def test_a_sweep_is_drawn_at_its_values(open_page: Open, make_run: Any, tmp_path: Path) -> None:
    runs = tuple(make_run(name, {"all": ranks}) for name, ranks in (("a", [1, 30]), ("m=4", [2, 3]), ("m=64", [4, 30])))
    sweep = ("temporal_dim", {"m=4": 4, "m=64": 64})
    write_report(Comparison("dims", "toy", ("a", "m=4", "m=64"), "a", runs, {}, *sweep), tmp_path)
    browser = open_page(tmp_path / "report.html", 420)
    assert texts(browser, "#sweep-picture .keys span") == ["temporal_dim", "a"]
    assert {"4", "64", "temporal_dim"} <= set(texts(browser, "#sweep-picture svg text"))
    assert len(browser.find_elements("css selector", "#sweep-picture polyline")) == 2
    assert browser.get_log("browser") == []
