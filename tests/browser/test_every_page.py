"""Each page of the table in a browser: for everybody, by whatever means, and nothing moves while it loads.

Pictures of each are kept where ``SEATRIAL_TEST_SCREENSHOTS`` says.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.kit.browsing import PHONE, Visit, visiting
from tests.kit.everypage import furnish, read_pages
from tests.kit.server import Registry
from tests.kit.trials import open_port

pytestmark = pytest.mark.asyncio(loop_scope="session")
PARTS_MAX = 12
_CONTROLS = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex='0']")].filter(
    (one) => one.checkVisibility({visibilityProperty: true}) && !["hidden", "radio"].includes(one.type))"""
_NAME = "(one) => one.cloneNode(false).outerHTML"
_WATCH = """() => {
    const steps = window.steps = [];
    document.addEventListener("keyup", () => {
        const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
        steps.push({
            html: one.cloneNode(false).outerHTML,
            outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
            inside: box.top >= 0 && box.top < innerHeight && box.left >= 0 && box.left < innerWidth,
        });
    });
}"""
_TIME = "datetime-local"


@dataclass(frozen=True, slots=True)
class Place:
    """A registry with something to show on each page: where these are, and one about a trial."""

    registry: Registry
    pages: Mapping[str, str]
    trial: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> AsyncIterator[Place]:
    """One for all tests: they only look."""
    data = tmp_path_factory.mktemp("registry")
    (data / "seatrial.db").write_bytes(sqlite_template.read_bytes())
    # Who tries one of the images says no more: it must not be taken for lost while the tests last.
    async with open_port(data, f"sqlite:///{data / 'seatrial.db'}", lease_seconds=3600) as port:
        values = await furnish(port)
        yield Place(port.registry, pages(values), read_pages(values)["/trials/{trial}"])


def pages(values: dict[str, str]) -> dict[str, str]:
    """What a browser shows, by a name for its picture; also the trial that goes on, and an error."""
    waiting = read_pages(values | {"trial": values["waiting"]})
    found = {path: address for path, address in read_pages(values).items() if shown(path)}
    found |= {f"{path} while": one for path, one in waiting.items() if "{trial}" in path and shown(path)}
    found["nothing"] = "/nothing"
    return {re.sub(r"[^a-z_]+", "-", path).strip("-") or "home": address for path, address in found.items()}


def shown(path: str) -> bool:
    """Whether it is a page, and not a part of one."""
    return not path.endswith((".svg", "/live"))


async def sign_in(visit: Visit) -> None:
    await visit.go("/sign-in")
    await visit.sign_in()


async def require_still(visit: Visit) -> None:
    """Nothing has moved while the page came, nothing moves by itself, and nothing of it was carried out."""
    await visit.require_still()
    assert await visit.page.evaluate("document.getAnimations().length") == 0, visit.page.url
    assert await visit.page.title() != "owned"


async def require_keyboard(visit: Visit) -> None:
    """Each control is reached by the keyboard in its order, and seen to be."""
    wanted = await visit.page.evaluate(f"() => ({_CONTROLS})().map({_NAME})")
    await visit.page.evaluate(_WATCH)
    reached: list[Any] = []
    presses = len(wanted)
    while len(reached) < len(wanted) and presses:
        for _ in range(presses):
            await visit.page.keyboard.press("Tab")
        steps = await visit.page.evaluate("steps")
        reached = controls(steps)
        presses = len(wanted) - len(reached) if len(steps) < len(wanted) * PARTS_MAX else 0
    assert [at["html"] for at in reached] == wanted, visit.page.url
    assert [at for at in reached if not at["outlined"] or not at["inside"]] == [], visit.page.url


def controls(steps: list[Any]) -> list[Any]:
    """What the keyboard came to. A field of a time has parts, and is left when all were passed; those of
    which one is chosen are gone through by other keys."""
    return [
        at
        for before, at in pairwise([{"html": ""}, *steps])
        if 'type="radio"' not in at["html"] and not (at["html"] == before["html"] and _TIME in at["html"])
    ]


@pytest.mark.timeout(900)  # some seventy pages
async def test_each_is_for_everybody_and_stands_still(chromium: Browser, place: Place) -> None:
    """axe finds nothing, the policy refuses nothing, nothing is wider than the window, in each look, and the
    keyboard reaches all."""
    folder = os.environ.get("SEATRIAL_TEST_SCREENSHOTS")
    async with visiting(chromium, place.registry) as visit:
        await sign_in(visit)
        for name, address in place.pages.items():
            assert await visit.go(address) == (404 if name == "nothing" else 200), address
            await require_still(visit)
            await visit.require_good_in_each_look(Path(folder) / name if folder else None)
            await require_keyboard(visit)


async def test_each_stands_still_on_a_phone(chromium: Browser, place: Place) -> None:
    """Of somebody who asked that nothing moves."""
    phone: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "reduced_motion": "reduce"}
    async with visiting(chromium, place.registry, **phone) as visit:
        await sign_in(visit)
        for address in place.pages.values():
            await visit.go(address)
            await require_still(visit)


async def test_times_are_told_in_the_readers_zone(chromium: Browser, place: Place) -> None:
    titles = {}
    for zone in ("Asia/Tokyo", "America/New_York"):
        async with visiting(chromium, place.registry, timezone_id=zone, locale="en-GB") as visit:
            await sign_in(visit)
            await visit.go(place.trial)
            time = visit.page.locator("time").first
            told = await time.get_attribute("datetime")
            assert told is not None
            assert told.endswith("Z")
            titles[zone] = await time.get_attribute("title")
    assert "GMT+9" in str(titles["Asia/Tokyo"])
    assert "GMT-5" in str(titles["America/New_York"]) or "GMT-4" in str(titles["America/New_York"])
