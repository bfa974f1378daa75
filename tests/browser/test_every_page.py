"""Each page of the table in a browser: for everybody, by whatever means, and nothing moves while it loads.

Pictures of each are kept where ``SEATRIAL_TEST_SCREENSHOTS`` says, or else beside what pytest keeps.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.kit.browsing import Visit, visiting
from tests.kit.everypage import furnish, read_pages
from tests.kit.trials import Port

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}
PICTURE_MAX = 10_000
"""Of what is higher, such as a log of a megabyte, only the beginning."""
PARTS_MAX = 12
_CONTROLS = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")].filter(
    (one) => one.checkVisibility({visibilityProperty: true}) && !["hidden", "radio"].includes(one.type))"""
_NAME = "(one) => one.cloneNode(false).outerHTML"
_FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    return {
        html: one.cloneNode(false).outerHTML,
        outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        inside: box.top >= 0 && box.top < innerHeight && box.left >= 0 && box.left < innerWidth,
    };
}"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures are kept."""
    folder = Path(os.environ.get("SEATRIAL_TEST_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pages(values: dict[str, str]) -> dict[str, str]:
    """What a browser shows, by a name for its picture; also the trial that goes on, and an error."""
    waiting = read_pages(values | {"trial": values["waiting"]})
    # These first: a worker that is silent for long is taken for lost.
    found = {f"{path} while": one for path, one in waiting.items() if "{trial}" in path and shown(path)}
    found |= {path: address for path, address in read_pages(values).items() if shown(path)}
    found["nothing"] = "/nothing"
    return {re.sub(r"[^a-z_]+", "-", path).strip("-") or "home": address for path, address in found.items()}


def shown(path: str) -> bool:
    """Whether it is a page, and not a part of one."""
    return not path.endswith((".svg", "/live"))


async def sign_in(visit: Visit) -> None:
    await visit.go("/sign-in")
    await visit.sign_in()


async def following(visit: Visit, before: str) -> Any:
    """What the keyboard comes to next. A field of a time has parts, and is left when all were passed; those
    of which one is chosen are gone through by other keys."""
    for _ in range(PARTS_MAX):
        await visit.page.keyboard.press("Tab")
        at = await visit.page.evaluate(_FOCUSED)
        is_part = at["html"] == before and "datetime-local" in before
        if not is_part and 'type="radio"' not in at["html"]:
            break
    return at


@pytest.mark.parametrize("look", LOOKS)
async def test_each_is_for_everybody_and_stands_still(
    chromium: Browser, port: Port, pictures: Path, look: str
) -> None:
    """axe finds nothing, the policy refuses nothing, nothing is wider than the window, and nothing moves."""
    found = pages(await furnish(port))
    async with visiting(chromium, port.registry, **LOOKS[look]) as visit:
        await sign_in(visit)
        for name, address in found.items():
            assert await visit.go(address) == (404 if name == "nothing" else 200), address
            await visit.require_good()
            await visit.require_still()
            assert await visit.page.title() != "owned"
            picture = pictures / f"{name}.{look}.png"
            is_whole = await visit.page.evaluate(f"document.documentElement.scrollHeight < {PICTURE_MAX}")
            await visit.page.screenshot(path=picture, full_page=is_whole)


async def test_each_control_is_reached_by_the_keyboard_in_its_order(chromium: Browser, port: Port) -> None:
    found = pages(await furnish(port))
    async with visiting(chromium, port.registry) as visit:
        await sign_in(visit)
        for address in found.values():
            await visit.go(address)
            wanted = await visit.page.evaluate(f"() => ({_CONTROLS})().map({_NAME})")
            reached = []
            for _ in wanted:
                at = await following(visit, reached[-1] if reached else "")
                assert at["outlined"], (address, at)
                assert at["inside"], (address, at)
                reached.append(at["html"])
            assert reached == wanted, address


async def test_times_are_told_in_the_readers_zone(chromium: Browser, port: Port) -> None:
    values = await furnish(port)
    path = read_pages(values)["/trials/{trial}"]
    titles = {}
    for zone in ("Asia/Tokyo", "America/New_York"):
        async with visiting(chromium, port.registry, timezone_id=zone, locale="en-GB") as visit:
            await sign_in(visit)
            await visit.go(path)
            time = visit.page.locator("time").first
            told = await time.get_attribute("datetime")
            assert told is not None
            assert told.endswith("Z")
            titles[zone] = await time.get_attribute("title")
    assert "GMT+9" in str(titles["Asia/Tokyo"])
    assert "GMT-5" in str(titles["America/New_York"]) or "GMT-4" in str(titles["America/New_York"])


async def test_nothing_moves_for_those_who_asked_that_nothing_does(chromium: Browser, port: Port) -> None:
    """No page has what moves by itself, whether or not somebody asked."""
    found = pages(await furnish(port))
    async with visiting(chromium, port.registry, reduced_motion="reduce") as visit:
        await sign_in(visit)
        for address in found.values():
            await visit.go(address)
            assert await visit.page.evaluate("document.getAnimations().length") == 0
