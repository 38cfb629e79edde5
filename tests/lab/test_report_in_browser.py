"""The report in a real browser: harmless, sortable, readable by all, on a phone and on paper.

Skipped where Chromium, its driver, selenium or axe-core-python is absent.
"""

import base64
import json
import math
from typing import Any

import pytest
from in_browser import DESK, PHONE, SCHEMES, axe, look
from test_report import fake_results, single_run

from softaug_lab.report.page import write_report

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
SIGMAS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.4, 0.5)
RECORDS = {
    "eight arms": lambda: fake_results(3, ["soft@0.15", "mixup"]),
    "a sweep": lambda: fake_results(
        3, [f"{arm}@{s}" for arm in ("harsh", "harsh-constant", "soft") for s in SIGMAS]
    ),
    "one run": single_run,
}
PAPER = 718  # px; A4 within margins of 1 cm

SLOW = (
    pytest.mark.slow
)  # the page of a sweep has one section that others lack, and axe needs half a minute


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=SLOW if name == "a sweep" else ()) for name in RECORDS],
)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(RECORDS[request.param](), path)
    return path.as_uri()


def open_details(browser: Any) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")


def test_it_loads_without_an_error_or_a_request(browser: Any, page: str) -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what other pages left
    look(browser, page)
    open_details(browser)
    assert browser.get_log("browser") == []
    events = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert page in asked
    assert all(url == page or url.startswith("data:") for url in asked)


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_sticks_out_of_the_page(browser: Any, page: str, width: int) -> None:
    look(browser, page, width)
    open_details(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_differ_and_figures_go_along(browser: Any, page: str, scheme: str) -> None:
    look(browser, page, scheme=scheme)
    paper, ink = browser.execute_script(
        "const of = getComputedStyle, tick = document.querySelector('svg text');"
        "return [of(document.body).backgroundColor, of(tick).fill]"
    )
    bright = {name: int(colour[4:].split(",")[0]) for name, colour in (("p", paper), ("i", ink))}
    assert (bright["p"] > bright["i"]) == (scheme == "light")


@pytest.mark.parametrize(
    ("width", "scheme"), [pytest.param(DESK, "light", marks=pytest.mark.slow), (PHONE, "dark")]
)
def test_axe_finds_nothing(browser: Any, page: str, width: int, scheme: str) -> None:
    look(browser, page, width, scheme=scheme)
    open_details(browser)
    found = axe(browser)
    assert found["violations"] == []
    assert {"color-contrast", "image-alt", "button-name"} <= set(found["passes"])


def test_print_hides_nothing_and_fits_the_paper(browser: Any, page: str) -> None:
    """What can be read with all details open stands on paper too, where they are closed."""
    words = (
        "return [...document.querySelectorAll('main *, header *')].filter(one =>"
        " one.checkVisibility({contentVisibilityAuto: true, opacityProperty: true,"
        " visibilityProperty: true}) && one.getClientRects().length).length"
    )
    look(browser, page)
    open_details(browser)
    on_screen = browser.execute_script(words)
    look(browser, page, PAPER, media="print")
    assert browser.execute_script(words) == on_screen
    # Wider, and the right edge of a table were cut off.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PAPER
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF-")


# --- sorting --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page_with_holes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page on which harsh was not evaluated and none has no top-1 error."""
    results = fake_results(3)
    for run in results["runs"]:
        if run["arm"] == "harsh":
            run["evaluation"] = None
        if run["arm"] == "none":
            run["evaluation"]["top1_error"] = math.nan
        if run["arm"] == "soft":  # as text 9 comes after 10
            run["evaluation"]["top1_error"] = 0.09
        if run["arm"] == "standard":  # as text a minus sign comes after all digits
            run["evaluation"]["calibration_gap"] = -0.2
    path = tmp_path_factory.mktemp("holes") / "report.html"
    write_report(results, path)
    return path.as_uri()


@pytest.fixture
def holes(browser: Any, page_with_holes: str) -> Any:
    look(browser, page_with_holes)
    return browser


def column(browser: Any, heading: str) -> tuple[Any, int]:
    heads = browser.find_elements(By.CSS_SELECTOR, "#table-of-arms thead th")
    at = [head.text.split("\N{NO-BREAK SPACE}")[0] for head in heads].index(heading)
    return heads[at], at


def values(browser: Any, at: int) -> list[float | None]:
    """A column's figures as they stand, None where there is none."""
    found = []
    for row in browser.find_elements(By.CSS_SELECTOR, "#table-of-arms tbody tr"):
        text = row.find_elements(By.CSS_SELECTOR, "th, td")[at].text.split("\n")[0]
        number = text.replace("\N{MINUS SIGN}", "-")
        found.append(None if text in ("\N{EN DASH}", "nan") else float(number))
    return found


@pytest.mark.parametrize(
    ("heading", "key"),
    [("top-1 error %", None), ("gap, points", Keys.ENTER), ("gap, points", Keys.SPACE)],
)
def test_headings_sort_by_number_and_back(holes: Any, heading: str, key: str | None) -> None:
    head, at = column(holes, heading)
    button = head.find_element(By.TAG_NAME, "button")
    for direction, sign in (("ascending", 1), ("descending", -1)):
        button.send_keys(key) if key else button.click()
        assert head.get_attribute("aria-sort") == direction
        found = values(holes, at)
        there = [value for value in found if value is not None]
        assert there == sorted(there, key=lambda value: sign * value)
        assert len(there) >= 4
        assert found == there + [None] * (len(found) - len(there))
    other, _ = column(holes, "arm")
    other.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") is None
    names = [one.text for one in holes.find_elements(By.CSS_SELECTOR, "#table-of-arms tbody th")]
    assert names == sorted(names)


def test_the_keyboard_reaches_everything(holes: Any) -> None:
    """Tab goes through all headings, scrolling tables and details, and shows where it is."""
    wanted = holes.execute_script(
        "return document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]').length"
    )
    seen = set()
    for _ in range(wanted):
        holes.switch_to.active_element.send_keys(Keys.TAB)
        focused = holes.switch_to.active_element
        assert focused.value_of_css_property("outline-style") == "solid", focused.tag_name
        seen.add(focused.id)
    assert len(seen) == wanted
