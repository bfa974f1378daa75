"""All pages."""

from __future__ import annotations

from aiohttp import web

from registry.pages import serving
from registry.pages.assets import show_asset, show_robots
from registry.pages.badges import show_badge
from registry.pages.home import show_home
from registry.pages.serving import NAME, PageRoute
from registry.pages.signing import show_sign_in, sign_in, sign_out

_OF = f"/r/{NAME}/-"
PAGES: tuple[PageRoute, ...] = (
    PageRoute("GET", "/", show_home),
    PageRoute("GET", "/sign-in", show_sign_in),
    PageRoute("POST", "/sign-in", sign_in, asks_who=False),
    PageRoute("POST", "/sign-out", sign_out, asks_who=False),
    PageRoute("GET", "/robots.txt", show_robots, asks_who=False),
    PageRoute("GET", "/assets/{version}/{file}", show_asset, asks_who=False),
    PageRoute("GET", f"{_OF}/badges/{{tag}}.svg", show_badge),
)


def add_routes(app: web.Application) -> None:
    """Serve them."""
    serving.add_routes(app, PAGES)
