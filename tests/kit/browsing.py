"""A browser that looks at the registry's pages: what went wrong in them, and what axe finds."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, ViewportSize

from tests.kit.server import ADMIN, Registry
from tests.kit.sources import ROOT

_MOVED = """() => new Promise((done) => {
    const moved = [];
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) {
            const what = one.sources.map((source) => source.node?.outerHTML?.slice(0, 200));
            if (!one.hadRecentInput) moved.push([one.value, ...what]);
        }
    }).observe({type: "layout-shift", buffered: true});
    setTimeout(() => done(moved), 50);
})"""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
DESK: ViewportSize = {"width": 1280, "height": 720}
PHONE: ViewportSize = {"width": 360, "height": 740}
_OF_COLOURS = ["color-contrast", "link-in-text-block"]
_OF_PLACES = [
    *("target-size", "scrollable-region-focusable", "color-contrast", "link-in-text-block", "region"),
    *("heading-order", "skip-link", "empty-table-header", "td-headers-attr", "th-has-data-cells"),
]
PICTURE_MAX = 10_000
"""Of what is higher, such as a log of a megabyte, only the beginning."""
_RUN = """async (rules) => {
    const options = {runOnly: rules, resultTypes: ["violations"]};
    const found = (await axe.run(options)).violations;
    return found.map((one) => [one.id, one.nodes.slice(0, 5).map((node) => node.html)]);
}"""


@cache
def axe() -> str:
    """axe-core, as it runs in a page."""
    return gzip.decompress((ROOT / "tests" / "data" / "axe.min.js.gz").read_bytes()).decode()


@dataclass(frozen=True, slots=True)
class Visit:
    """A visitor's page of a registry. ``complaints`` are errors of scripts, and what the policy refused."""

    registry: Registry
    page: Page
    has_scripts: bool
    complaints: list[str] = field(default_factory=list)

    async def go(self, path: str) -> int:
        """Open a page; its status."""
        response = await self.page.goto(f"{self.registry.url}{path}")
        assert response is not None
        return response.status

    async def sign_in(self, *, name: str = ADMIN, password: str | None = None) -> None:
        """Fill in and send the form that the page has."""
        await self.page.get_by_label("Name", exact=True).fill(name)
        await self.page.get_by_label("Password", exact=True).fill(password or self.registry.token)
        await self.page.locator("main").get_by_role("button", name="Sign in").click()
        await self.page.get_by_role("button", name="Sign out").wait_for()

    async def take_secret(self) -> str:
        """Read the secret that a page shows this once, and go on where it is on a page of its own."""
        secret = await self.page.locator(".copyable code").inner_text()
        await self.require_good()
        following = self.page.get_by_role("link", name="I have it: go on")
        if await following.count():
            await following.click()
        return secret

    async def say_yes(self) -> None:
        """Answer the page that asks whether it is meant."""
        await self.require_good()
        await self.page.get_by_role("button", name="Yes, do it").click()

    async def text(self) -> str:
        """What the page says."""
        return await self.page.locator("body").inner_text()

    async def require_good(self) -> None:
        """Hold the page against axe's rules, and against the width of the window."""
        assert self.complaints == [], self.page.url
        if not self.has_scripts:
            return
        await self.page.evaluate(axe())
        await self._require(RULES)

    async def require_good_in_each_look(self, picture: Path | None = None) -> None:
        """The same at a desk, there in dark colours, and on a phone. Only those of axe's rules are asked
        again whose answer may be another: what looks at colours, and what looks at places or at what a
        narrow window hides. Pictures are kept as ``picture`` says, each with the name of its look."""
        if not self.has_scripts:
            return await self.require_good()
        usual = self.page.viewport_size
        assert usual is not None
        await self.page.set_viewport_size(DESK)
        await self.require_good()
        await self._take(picture, "light")
        await self.page.emulate_media(color_scheme="dark")
        await self._require(_OF_COLOURS)
        await self._take(picture, "dark")
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size(PHONE)
        await self._require(_OF_PLACES)
        await self._take(picture, "phone")
        await self.page.set_viewport_size(usual)
        return None

    async def _take(self, picture: Path | None, look: str) -> None:
        if picture is not None:
            is_whole = await self.page.evaluate(f"document.documentElement.scrollHeight < {PICTURE_MAX}")
            await self.page.screenshot(path=f"{picture}.{look}.png", full_page=is_whole)

    async def _require(self, rules: list[str]) -> None:
        found: list[Any] = await self.page.evaluate(_RUN, rules)
        assert found == [], self.page.url
        assert not await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"), (
            self.page.url
        )

    async def require_still(self) -> None:
        """Nothing has moved on the page but by what the visitor did (CLS, of the Layout Instability API)."""
        if not self.has_scripts:
            return
        moved: list[Any] = await self.page.evaluate(_MOVED)
        assert moved == [], self.page.url


@asynccontextmanager
async def visiting(
    chromium: Browser, registry: Registry, *, scripts: bool = True, **context: Any
) -> AsyncIterator[Visit]:
    """A visitor of his own, with or without JavaScript."""
    async with await chromium.new_context(java_script_enabled=scripts, **context) as opened:
        page = await opened.new_page()
        visit = Visit(registry, page, scripts)
        # A page that is an error is told as such too, and is what was asked for.
        page.on(
            "console",
            lambda message: (
                visit.complaints.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        yield visit
