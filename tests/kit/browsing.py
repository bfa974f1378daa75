"""A browser that looks at the registry's pages: what went wrong in them, and what axe finds."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from playwright.async_api import Browser, Page

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

    async def text(self) -> str:
        """What the page says."""
        return await self.page.locator("body").inner_text()

    async def require_good(self) -> None:
        """Hold the page against axe's rules, and against the width of the window."""
        assert self.complaints == [], self.page.url
        if not self.has_scripts:
            return
        script = f"async () => {{ {axe()}; return (await axe.run({{runOnly: {RULES}}})).violations }}"
        found: list[dict[str, Any]] = await self.page.evaluate(script)
        told = [(one["id"], [node["html"] for node in one["nodes"]][:5]) for one in found]
        assert told == [], self.page.url
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
