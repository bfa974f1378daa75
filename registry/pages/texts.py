"""What pages say, in English, each text by its key: the one place to translate.

A test holds that templates have no other words, and that nothing here is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "language": "en",
        "name": "Seatrial",
        "skip": "Skip to content",
        "copy": "Copy",
        "sign_in": "Sign in",
        "sign_out": "Sign out",
        "nav.label": "Main",
        "nav.repositories": "Repositories",
        "crumbs.label": "Where you are",
        "pager.label": "Pages",
        "pager.first": "Back to the first page",
        "pager.next": "Next page",
        "lines.label": "The same from a program",
        "lines.api": "API",
        "lines.cli": "Command",
        # times
        "time.now": "just now",
        "time.soon": "in a moment",
        "time.ago": "{span} ago",
        "time.to_come": "in {span}",
        "time.minute": "a minute",
        "time.minutes": "{count} minutes",
        "time.hour": "an hour",
        "time.hours": "{count} hours",
        "time.day": "a day",
        "time.days": "{count} days",
        "time.month": "a month",
        "time.months": "{count} months",
        "time.year": "a year",
        "time.years": "{count} years",
        # words of the registry
        "visibility.public": "public",
        "visibility.internal": "internal",
        "visibility.private": "private",
        "gate.off": "off",
        "gate.warn": "warns",
        "gate.enforce": "enforces",
        "gate.hold": "holds",
        "state.pass": "passed",
        "state.warn": "passed with warnings",
        "state.not-applicable": "nothing to run",
        "state.grandfathered": "from before the gate",
        "state.expired": "verdict too old",
        "state.pending": "being tried",
        "state.fail": "failed",
        "state.error": "could not be tried",
        "state.untried": "never tried",
        "state.unsupported": "platform not run here",
        "state.unsigned": "signature missing",
        "state.blocked": "blocked",
        # errors
        "error.400": "This was not understood",
        "error.401": "Sign in first",
        "error.403": "Not for you",
        "error.404": "Not here",
        "error.405": "Not this way",
        "error.409": "Not now",
        "error.429": "Too often",
        "error.500": "A fault of the registry",
        "error.503": "Not available",
        "error.other": "This did not work",
        "error.code": "Error code",
        "error.request": "Request",
        "advice.401": "What you look for may be there for those who may see it.",
        "advice.403": "Whoever manages it can give you the right.",
        "advice.404": "It may have moved, or been deleted. The list of repositories has what there is.",
        "advice.409": "Look at what changed meanwhile, and try again.",
        "advice.429": "Wait a little, then try again.",
        "advice.500": "It is no fault of yours. Tell whoever runs the registry the number of the request.",
        "advice.503": "Try again in a moment.",
        # signing in
        "sign_in.name": "Name",
        "sign_in.password": "Password",
        "sign_in.hint": "An API token that is not limited is a password too. The administrator's first token "
        "lies in admin.token in the data folder.",
        "sign_in.issuer": "Sign in with {issuer}",
        # home
        "home.title": "Repositories",
        "home.caption": "Repositories that you may pull from",
        "home.name": "Name",
        "home.visibility": "Visible",
        "home.gate": "Gate",
        "home.tags": "Tags",
        "home.images": "Images",
        "home.size": "Size",
        "home.empty": "There is no repository yet that you may pull from. Push an image, and it is here:",
        "home.example_image": "busybox",
        "home.example_name": "team/app:1",
        "home.nothing_public": "Nothing here is public. Sign in to see what is yours.",
        "home.no_more": "No more repositories follow.",
        # badges
        "badge.label": "sea trial",
    }
)


def text(key: str, **values: object) -> str:
    """The text of that key, with ``values`` filled in."""
    found = TEXTS[key]
    return found.format_map(values) if values else found


def has_text(key: str) -> bool:
    """Whether there is one."""
    return key in TEXTS
