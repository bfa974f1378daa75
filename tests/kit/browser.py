"""Debian's Chromium, without a window: what a person's browser does with the registry and with other sites.

::

    async with running_chromium() as chromium:
        context = await chromium.new_context()

Names below ``.test`` lead to this host. Unlike the loopback's address they are to a browser as any site on a
network: without TLS it does not trust them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

HOSTS = "MAP *.test 127.0.0.1"


def find_chromium() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("chromium")


@asynccontextmanager
async def running_chromium(program: str) -> AsyncIterator[Browser]:
    """Start it; contexts made of it know nothing of each other."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=[f"--host-resolver-rules={HOSTS}"],
            # Its sandbox does not work for root; it opens nothing but pages of the tests.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            yield browser
        finally:
            await browser.close()
