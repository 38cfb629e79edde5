"""Open a page in the tests' Chromium, and let axe look for what bars people from it."""

from importlib.resources import files
from typing import Any

PHONE, DESK = 400, 1200  # px
SCHEMES = ("light", "dark")


def look(browser: Any, page: str, width: int = DESK, **media: str) -> None:
    """Open the page at a width; media: the scheme, and print for paper."""
    tell = browser.execute_cdp_cmd
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    tell("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": media.get("scheme", "light")}
    tell("Emulation.setEmulatedMedia", {"media": media.get("media", ""), "features": [scheme]})
    browser.get(page)


def axe(browser: Any) -> dict[str, list[str]]:
    """Run axe on the page as it stands: the violations with an element, and what passes."""
    send = browser.execute_cdp_cmd  # unlike a script of the page, it may run any text
    send(
        "Runtime.evaluate",
        {"expression": files("axe_core_python").joinpath("axe.min.js").read_text()},
    )
    found: dict[str, list[str]] = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then(found => done({"
        "  violations: found.violations.map(one => one.id + ': ' + one.nodes[0].html),"
        "  passes: found.passes.map(one => one.id)}))"
    )
    return found
