"""Actors: who a request comes from, and what their credential limits them to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Literal

from registry.auth.networks import Networks
from registry.auth.scopes import Scope

Role = Literal["reader", "writer", "maintainer", "owner"]
"""What somebody is on a repository or a namespace, from least to most."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker's pull token opens: one part's image in one repository, while the lease lives, and those
    of its ``services`` and of other scanners, by repository and digest."""

    id: str
    repository: str
    digest: str
    services: tuple[tuple[str, str], ...] = ()

    @property
    def images(self) -> tuple[tuple[str, str], ...]:
        """All of them, by repository and digest."""
        return ((self.repository, self.digest), *self.services)

    @property
    def repositories(self) -> frozenset[str]:
        """Where they are."""
        return frozenset(repository for repository, _ in self.images)


@dataclass(frozen=True, slots=True)
class Workload:
    """A job of an OIDC issuer: by which rule it acts, who it is there, and, where its claims tell, the
    address of its run and the commit that it works on. Kept with what it pushes."""

    issuer: str
    rule: str
    subject: str
    run: str | None = None
    commit: str | None = None

    @property
    def told(self) -> dict[str, str | None]:
        """As a JSON value."""
        return asdict(self)

    @property
    def text(self) -> str:
        """As rows keep it."""
        return json.dumps(self.told, separators=(",", ":"), sort_keys=True)


def stored_workload(text: str | None) -> Workload | None:
    """The job that a row tells of."""
    return None if text is None else Workload(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, a robot, a worker or nobody; in events also the registry by itself, and who holds its host.

    ``roles`` are those given to the account and its groups: a key that ends with a slash is a namespace, and
    all below it; another is one repository. ``is_auditor`` reads everything.
    ``scopes`` limits what the credential may be used for; ``None`` is all that its account may do.
    ``refused`` are (repository, action) pairs that were asked for when a registry token was made and not
    granted: for those another token cannot help. ``from_registry_token`` tells a Bearer token of ``/token``,
    which a client can replace by a wider one, from a password or API token, which it cannot.
    ``session_id`` is the cookie session's, where there is one.
    ``credential_scopes`` are then the scopes of the API token behind it (``None``: a password). ``networks``
    are those that the API token may be used from (``None``: everywhere). ``address`` is where the request
    came from, and ``client`` the program that it said it is, for history and events. ``until`` is when its
    credential has to be looked at again (:func:`time.monotonic`), though no epoch moves.
    ``credentials_after`` is its account's: what was issued under an older one is void.
    ``workload`` is the job that acts as this account, if one does.
    """

    kind: Literal["user", "robot", "worker", "anonymous", "registry", "host"]
    name: str
    account_id: int | None = None
    is_admin: bool = False
    is_auditor: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict, hash=False)
    scopes: tuple[Scope, ...] | None = None
    refused: frozenset[tuple[str, str]] = frozenset()
    from_registry_token: bool = False
    lease: Lease | None = None
    token_id: str | None = None
    session_id: str | None = None
    credential_scopes: tuple[Scope, ...] | None = None
    networks: Networks | None = None
    address: str | None = None
    client: str | None = None
    credentials_after: datetime | None = None
    workload: Workload | None = None
    until: float = field(default=inf, compare=False)

    @property
    def shown(self) -> str:
        """How messages, events and history name this actor."""
        return self.name if self.kind != "worker" else f"worker {self.name}"

    @property
    def workload_text(self) -> str | None:
        """The job that acts, as rows keep it beside what it did."""
        return None if self.workload is None else self.workload.text

    @property
    def by_credential(self) -> Actor:
        """The actor with all that its own credential covers, whatever its registry token was asked for."""
        return replace(self, scopes=self.credential_scopes) if self.from_registry_token else self

    def right_on(self, place: str | None) -> str:
        """By what right it does what it may, for events: on a repository, a namespace (with a slash at its
        end), or in general."""
        from registry.auth.policy import role_on  # noqa: PLC0415  (the policy knows actors)

        if self.kind in ("registry", "host", "anonymous"):
            return self.kind
        if self.is_admin:
            return "administrator"
        held = role_on(self, place) if place is not None else None
        return f"{held.role} on {held.on}" if held is not None else "own account"


ANONYMOUS = Actor(kind="anonymous", name="anonymous")
REGISTRY = Actor(kind="registry", name="registry")
"""What the registry does by itself, such as judging reports."""
HOST = Actor(kind="host", name="host")
"""Whoever holds the data folder and runs a command on it: nobody asks for his name."""
