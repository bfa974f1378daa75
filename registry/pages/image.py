"""An image: whether it may be pulled and why, what it is made of, and what names it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from registry.auth.policy import decide, may_audit
from registry.content.administration import find
from registry.content.inspecting import Contents, Totals, inspect, totals_of
from registry.http.api import gate
from registry.http.api.history import HistoryQuery, list_past_trials
from registry.http.api.images import Image, find_image
from registry.http.api.reasons import REASON_MAX
from registry.http.api.routes import Call, read_query
from registry.http.parsers import PARSERS
from registry.oci.digest import parse_content_digest
from registry.pages.rendering import Lines, chosen, host_of, page, short_digest
from registry.pages.serving import CursorQuery, field, given_body, moved, read_form
from registry.pages.tagging import TRIABLE
from registry.pages.texts import text
from registry.trials.admission import explain_manifest
from registry.trials.asking import may_read_log
from registry.trials.gate import Admit, AdmitWithWarning
from registry.trials.states import effective_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from registry.auth.actor import Actor
    from registry.content.manifests import StoredManifest
    from registry.content.repositories import Repository

SHOWN = 100


@dataclass(frozen=True, slots=True)
class Of:
    """The image that a page is about, and who looks at it: what all its pages show."""

    repository: Repository
    manifest: StoredManifest
    tag: str | None
    reads_scans: bool
    reads_pulls: bool

    @property
    def name(self) -> str:
        """The repository's."""
        return self.repository.name

    @property
    def digest(self) -> str:
        """The manifest's."""
        return str(self.manifest.digest)

    @property
    def path(self) -> str:
        """Its page, by digest."""
        return f"/r/{self.name}/-/images/{self.digest}"

    @property
    def shown(self) -> str:
        """As people name it."""
        return f"{self.name}:{self.tag}" if self.tag else f"{self.name}@{self.digest}"

    @property
    def titled(self) -> str:
        """The same for a title: with as much of a digest as tells two apart."""
        return self.shown if self.tag else f"{self.name}@{short_digest(self.digest)}"

    @property
    def api(self) -> str:
        """Where the API has its repository."""
        return f"/api/v1/repositories/{quote(self.name, '')}"


async def show_image(call: Call) -> web.Response:
    """By tag or digest: the gate's word, how to pull it, and what it is made of where it may be pulled."""
    of = await image_of(call)
    services = call.services
    question, decision = await explain_manifest(
        services.database,
        services.settings,
        actor=call.actor,
        repository=of.repository,
        manifest=of.manifest,
        tag=of.tag,
    )
    contents = None
    # What is refused is not shown by another way.
    if isinstance(decision, Admit | AdmitWithWarning):
        contents = await inspect(
            services.database, services.blobs, of.manifest, parsers=call.request.app[PARSERS]
        )
    platforms: Mapping[str, Totals] = {}
    if contents is not None and contents.listed:
        there = {one.digest for one in contents.listed if one.row is not None}
        platforms = await totals_of(services.database, of.repository, there)
    host = host_of(call.request)
    return page(
        call.request,
        "image.html",
        title=of.titled,
        of=of,
        here_tab="overview",
        question=question,
        decision=decision,
        contents=contents,
        listed=[] if contents is None else _listed(contents, call),
        platforms=platforms,
        largest=_largest(contents),
        stack=_stack(contents),
        shown=SHOWN,
        by_tag=_commands(f"{host}/{of.name}:{of.tag}") if of.tag else [],
        by_digest=_commands(f"{host}/{of.name}@{of.digest}"),
        manages=decide(call.actor, "configure", of.name, of.repository.visibility).allowed,
        pushes=decide(call.actor, "push", of.name, of.repository.visibility).allowed,
        tries=question.state in TRIABLE
        and decide(call.actor, "trial", of.name, of.repository.visibility).allowed,
        reason_max=REASON_MAX,
        lines=Lines(
            api=[f"GET /api/v1/gate?image={of.shown}", f"GET /v2/{of.name}/manifests/{of.tag or of.digest}"],
            cli=[f"seatrial gate explain {of.shown}", f"seatrial image show {of.shown}"],
        ),
    )


async def block_image(call: Call) -> web.Response:
    """Refuse the image to everybody, with a reason that everybody reads."""
    name, digest = await _managed(call)
    reason = field(read_form(call), "reason")
    await gate.block(call, given_body(gate.BlockedImage, image=f"{name}@{digest}", reason=reason))
    return moved(call, f"/r/{name}/-/images/{digest}")


async def unblock_image(call: Call) -> web.Response:
    """Take that back."""
    name, digest = await _managed(call)
    await gate.unblock(call, Image(image=f"{name}@{digest}"))
    return moved(call, f"/r/{name}/-/images/{digest}")


async def _managed(call: Call) -> tuple[str, str]:
    """The repository and the digest, if the visitor manages what they name."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    return name, str(parse_content_digest(call.request.match_info["digest"]))


async def show_image_trials(call: Call) -> web.Response:
    """The trials of an image, newest first."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    of = await image_of(call)
    found = await list_past_trials(
        call, of.name, HistoryQuery(digest=of.digest, limit=SHOWN, cursor=query.cursor)
    )
    path = f"{of.path}/trials"
    return page(
        call.request,
        "image-trials.html",
        title=text("trials.title", image=of.titled),
        of=of,
        here_tab="trials",
        trials=found.items,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET {of.api}/trials?digest={of.digest}"], cli=[f"seatrial trial history {of.shown}"]
        ),
    )


async def image_of(call: Call) -> Of:
    """The image that the path names, if the visitor may pull from its repository."""
    matched = call.request.match_info
    name, tag = matched["name"], matched.get("tag")
    image = f"{name}:{tag}" if tag is not None else f"{name}@{matched['digest']}"
    repository, manifest, by_tag = await find_image(call, image, "pull")
    reads = may_read_log(call.actor, repository=name, visibility=repository.visibility)
    return Of(repository, manifest, by_tag, reads, may_read_pulls(call.actor, repository))


def may_read_pulls(actor: Actor, repository: Repository) -> bool:
    """Whether the actor is told who pulled from it."""
    return decide(actor, "configure", repository.name, repository.visibility).allowed or may_audit(actor)


def _commands(image: str) -> list[tuple[str, str]]:
    """How each client pulls what is named so."""
    folder = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    return [
        ("podman", f"podman pull {image}"),
        ("docker", f"docker pull {image}"),
        ("skopeo", f"skopeo copy docker://{image} oci:{folder}"),
        ("kubernetes", f"image: {image}"),
    ]


def _largest(contents: Contents | None) -> int:
    sizes = [layer.size for layer in contents.layers] if contents is not None else []
    return max([*sizes, 1])


def _stack(contents: Contents | None) -> list[tuple[float, float]]:
    """Where each layer begins in a picture of them all, and how wide it is there, of 100."""
    sizes = [layer.size for layer in contents.layers if layer.digest] if contents is not None else []
    whole, begins, found = sum(sizes) or 1, 0, []
    for size in sizes[:SHOWN]:
        found.append((100 * begins / whole, 100 * size / whole))
        begins += size
    return found


def _listed(contents: Contents, call: Call) -> list[dict[str, Any]]:
    """What an index lists, each with its state where it is there. Time is left aside: the state of the index
    itself has it."""
    now = datetime.now(UTC)
    found = []
    for one in contents.listed:
        row: Any = one.row
        state = None if row is None else effective_state(row, now=now, max_age=None).state
        found.append({"of": one, "state": state})
    return found
