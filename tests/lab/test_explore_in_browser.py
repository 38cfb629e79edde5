"""The page of softaug explore in a real browser: clicks, drags and keys as a person makes them.

Skipped where Chromium, its driver, selenium or axe-core-python is absent.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from in_browser import DESK, PHONE, axe, look
from test_explore import SIDE, Brightness, explorer, serving

ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Wait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
Select = pytest.importorskip("selenium.webdriver.support.ui").Select


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The address of a page with a model."""
    with serving(explorer(Brightness(), model_name="runs/stripes")) as server:
        yield server.url


@pytest.fixture
def opened(browser: Any, page: str) -> Any:
    """The browser, with the page as it begins."""
    return begin(browser, page)


def begin(browser: Any, page: str, width: int = DESK, scheme: str = "light") -> Any:
    look(browser, page, width, scheme=scheme)
    ready = (
        "return 'ready' in document.documentElement.dataset"
        " && !document.querySelector('.stage .line:empty')"
    )
    Wait(browser, 20).until(lambda found: found.execute_script(ready))
    return browser


def one(browser: Any, selector: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector)


# What the page draws anew (diagrams, lists) is read in one script: an element that is found first
# and asked afterwards may be gone by then.


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(found => found.innerText)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def path(browser: Any, selector: str) -> str:
    """The `d` of an SVG path."""
    script = "return document.querySelector(arguments[0]).getAttribute('d')"
    found: str = browser.execute_script(script, selector)
    return found


def visibilities(browser: Any) -> list[float]:
    return [float(text.split()[1]) for text in texts(browser, "#images .figures")]


def until(browser: Any, condition: Any) -> None:
    Wait(browser, 20, poll_frequency=0.05).until(lambda _: condition())


def settled(browser: Any, kind: str, visible: float) -> str:
    """The line of a stage once it says so much is visible."""
    said = f"{100 * visible:.0f} % visible"
    until(browser, lambda: one(browser, f"#{kind} .line").text.startswith(said))
    text: str = one(browser, f"#{kind} .line").text
    return text


def drag(browser: Any, kind: str, x: float, y: float) -> None:
    """Drag a handle by so many pixels of the image, in two moves."""
    handle = one(browser, f"#{kind} .handle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    unit = one(browser, f"#{kind} .frame").size["width"] / SIDE
    actions = ActionChains(browser, duration=30).click_and_hold(handle)
    for _ in range(2):
        actions.move_by_offset(round(x * unit / 2), round(y * unit / 2))
    actions.release().perform()


def test_it_asks_its_own_server_alone_and_logs_nothing(browser: Any, page: str) -> None:
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what other pages left
    begin(browser, page)
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert page in asked
    assert not [url for url in asked if not url.startswith((page, "data:"))]


def test_the_sigma_slider_changes_what_is_visible(opened: Any) -> None:
    before = visibilities(opened)
    sigma = one(opened, "#crop-sigma")
    ActionChains(opened, duration=30).drag_and_drop_by_offset(sigma, 90, 0).perform()
    until(opened, lambda: sum(visibilities(opened)) < 0.8 * sum(before))
    value = float(one(opened, "output[for=crop-sigma]").text)
    assert value > 0.45
    text = f"crop(sigma={value:g}, fill=0)"
    assert one(opened, "#text").get_attribute("value") == text
    assert one(opened, "#command").text == f"softaug train x --augment '{text}' --k 2"
    sigma.send_keys(Keys.HOME)
    until(opened, lambda: visibilities(opened) == [1.0] * 24)


def test_k_bends_the_curve(opened: Any) -> None:
    curve, line = (path(opened, f"#{name} .curve") for name in ("curve", "trails"))
    assert curve == line
    confident = texts(opened, "#images .figures")
    one(opened, "#k").send_keys(Keys.HOME)
    until(opened, lambda: path(opened, "#curve .curve") != curve)
    assert one(opened, "output[for=k]").text == "0.1"
    until(opened, lambda: path(opened, "#trails .curve") != line)
    assert texts(opened, "#images .figures") != confident


def test_a_transform_is_switched_on_and_the_fill_goes_with_all(opened: Any) -> None:
    assert not one(opened, "#erase-area").is_displayed()
    one(opened, "[name=erase]").click()
    until(opened, lambda: one(opened, "#erase-area").is_displayed())
    Select(one(opened, "#fill")).select_by_value("noise")
    expected = "crop(sigma=0.3, fill=noise)+erase(area=(0.02, 0.4), probability=1, fill=noise)"
    until(opened, lambda: one(opened, "#text").get_attribute("value") == expected)


def test_text_moves_the_sliders_and_a_wrong_one_is_explained(opened: Any) -> None:
    text = one(opened, "#text")
    text.clear()
    text.send_keys("crop(0.1)+blur(beta=3)")
    until(opened, lambda: one(opened, "[name=blur]").is_selected())
    assert one(opened, "output[for=crop-sigma]").text == "0.1"
    assert one(opened, "#blur-beta").get_attribute("value") == "3"
    text.send_keys("+crup")
    until(opened, lambda: "unknown transform 'crup'" in one(opened, "#fault").text)
    assert len(visibilities(opened)) == 24
    text.clear()
    text.send_keys("uniform_crop(2)")
    until(opened, lambda: one(opened, "#beyond").is_displayed())
    assert one(opened, "#fault").text == ""
    one(opened, "#again").click()  # keeps the text, which no slider says
    until(opened, lambda: "uniform_crop(2)" in one(opened, "#command").text)


def test_other_draws_and_other_images(opened: Any) -> None:
    names, figures = texts(opened, "#images .name"), texts(opened, "#images .figures")
    one(opened, "#again").click()
    until(opened, lambda: texts(opened, "#images .figures") != figures)
    assert texts(opened, "#images .name") == names
    one(opened, "#others").click()
    until(opened, lambda: texts(opened, "#images .name") != names)


def test_a_dragged_square_changes_the_models_confidence(opened: Any) -> None:
    side = int(one(opened, "output[for=side]").text)
    before = settled(opened, "hide", 1 - side**2 / SIDE**2)
    assert "the model gives" in before
    Select(one(opened, "#stage-fill")).select_by_value("noise")
    until(opened, lambda: one(opened, "#hide .line").text != before)
    before = one(opened, "#hide .line").text
    drag(opened, "hide", 2, -2)
    until(opened, lambda: one(opened, "#hide .line").text != before)
    drag(opened, "hide", -9, 0)  # half of it leaves the image: its middle stays in
    settled(opened, "hide", 1 - side * (side - side // 2) / SIDE**2)
    assert len(opened.find_elements(By.CSS_SELECTOR, "#trails rect")) >= 3


def test_an_image_dragged_out_of_its_frame_loses_what_is_cut_off(opened: Any) -> None:
    assert "the curve gives 1.00" in settled(opened, "cut", 1)
    drag(opened, "cut", 4, 3)
    visible = (SIDE - 4) * (SIDE - 3) / SIDE**2
    p = 1 - (1 - 1 / 3) * (1 - visible) ** 2
    line = settled(opened, "cut", visible)
    assert f"the curve gives {p:.2f}, the model gives " in line
    numbers = [float(text) for text in texts(opened, "#cut .top .number")]
    assert len(numbers) == 3
    assert sum(numbers) == pytest.approx(1, abs=0.02)
    assert f"the model gives {numbers[0]:.2f} to {texts(opened, '#cut .top span')[0]} (" in line
    drag(opened, "cut", 20, 0)  # no further than out
    settled(opened, "cut", 0)
    one(opened, "#back").click()
    settled(opened, "cut", 1)


def test_the_arrow_keys_move_both(opened: Any) -> None:
    for kind, lost in (("hide", None), ("cut", 1)):
        handle = one(opened, f"#{kind} .handle")
        place = handle.rect["x"]
        handle.send_keys(Keys.ARROW_RIGHT)
        until(opened, lambda: handle.rect["x"] > place)  # noqa: B023  called at once
        assert handle.value_of_css_property("outline-style") == "solid"
        if lost:
            settled(opened, kind, (SIDE - lost) / SIDE)
            handle.send_keys(Keys.SHIFT, Keys.ARROW_DOWN)
            settled(opened, kind, (SIDE - 1) * (SIDE - 2) / SIDE**2)


def test_an_image_is_chosen_by_a_click(opened: Any) -> None:
    before = settled(opened, "cut", 1)
    button = opened.find_elements(By.CSS_SELECTOR, "#images button")[4]
    name = button.find_element(By.CLASS_NAME, "name").text
    button.click()
    until(opened, lambda: one(opened, "#cut .line").text != before)
    assert button.get_attribute("aria-pressed") == "true"
    assert one(opened, "#cut .view").get_attribute("alt") == f"{name}, 100 % of it visible"
    whole, ghost = (one(opened, f"#cut {of}").get_attribute("src") for of in (".view", ".ghost"))
    assert ghost == whole


def test_without_a_model_the_curve_stands_alone(browser: Any) -> None:
    with serving(explorer()) as server:
        begin(browser, server.url)
        line = settled(browser, "cut", 1)
        assert "the curve gives 1.00 to " in line
        assert "model" not in line
        assert texts(browser, "#cut .top li") == []
        assert "softaug explore DATA RUN" in one(browser, "#legend").text


def test_a_server_that_ended_is_named(opened: Any) -> None:
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    opened.execute_cdp_cmd("Network.enable", {})
    try:
        offline = {"offline": True, **conditions}
        opened.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        one(opened, "#again").click()
        until(opened, lambda: one(opened, "#lost").is_displayed())
    finally:
        online = {"offline": False, **conditions}
        opened.execute_cdp_cmd("Network.emulateNetworkConditions", online)
    one(opened, "#again").click()
    until(opened, lambda: not one(opened, "#lost").is_displayed())


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_sticks_out_of_the_page(browser: Any, page: str, width: int) -> None:
    begin(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_axe_finds_nothing(browser: Any, page: str, width: int, scheme: str) -> None:
    begin(browser, page, width, scheme)
    one(browser, "[name=erase]").click()
    found = axe(browser)
    assert found["violations"] == []
    assert {"color-contrast", "label", "button-name"} <= set(found["passes"])
