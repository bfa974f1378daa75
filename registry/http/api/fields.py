"""Texts that requests of ``/api/v1`` have in common, as the description of the API says them.

The use case holds the grammar and says what is wrong; the patterns here describe it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from registry.auth.accountnames import parse_account_name, parse_robot_name
from registry.oci.names import COMPONENT_MAX, NAME_MAX

_ACCOUNT = "[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?"
_COMPONENT = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*"
_SHORT = f"(?![^:@+]{{{NAME_MAX + 1}}})(?!.*[a-z0-9._-]{{{COMPONENT_MAX + 1}}})"
_REPOSITORY = f"{_SHORT}{_COMPONENT}(/{_COMPONENT})*"
_ROBOT = f"{_REPOSITORY}[+]{_ACCOUNT}"
_TAG = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
_DIGEST = "(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
_DATE = re.compile("[0-9]{4}-")
ENTITY_TAGS = r'^([*]|(W/)?"[!#-~]*"([ 	]*,[ 	]*(W/)?"[!#-~]*")*)$'


def _parse_actor_name(text: str) -> str:
    return str(parse_robot_name(text)) if "+" in text else parse_account_name(text)


def _require_date(given: object) -> object:
    # pydantic takes a number of seconds for a time as well.
    if isinstance(given, str) and not _DATE.match(given):
        raise ValueError("it is a time such as 2026-11-25T02:00:00Z")
    return given


def _require_instant(given: datetime) -> datetime:
    try:
        given.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is a time of no year from 1 to 9999") from None
    return given


# Not strict: a body gives times as text.
Time = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_require_date), AfterValidator(_require_instant)
]
AccountName = Annotated[
    str,
    AfterValidator(parse_account_name),
    Field(
        description="Name of a user or a worker.",
        examples=["alice"],
        json_schema_extra={"pattern": f"^{_ACCOUNT}$"},
    ),
]
ActorName = Annotated[
    str,
    AfterValidator(_parse_actor_name),
    Field(
        description="Name of a user, a worker or a robot.",
        examples=["alice"],
        json_schema_extra={"pattern": f"^({_ACCOUNT}|{_ROBOT})$"},
    ),
]
RepositoryName = Annotated[
    str,
    Field(
        description="Name of a repository, `team/app`; in a path its slashes are written `%2F`.",
        examples=["team/app"],
        json_schema_extra={"pattern": f"^{_REPOSITORY}$", "maxLength": NAME_MAX},
    ),
]
NamespaceName = Annotated[
    str,
    Field(
        description="Name of a namespace, `team/sub`, without a slash at its end; in a path its slashes are "
        "written `%2F`.",
        examples=["team"],
        json_schema_extra={"pattern": f"^{_REPOSITORY}$", "maxLength": NAME_MAX},
    ),
]
RobotName = Annotated[
    str,
    Field(
        description="Name of a robot, `team/sub+ci`: its namespace, a plus, its own name; in a path its "
        "slashes are written `%2F`.",
        examples=["team+ci"],
        json_schema_extra={"pattern": f"^{_ROBOT}$"},
    ),
]
GroupName = Annotated[
    str,
    Field(description="Name of a group.", examples=["devs"], json_schema_extra={"pattern": f"^{_ACCOUNT}$"}),
]
MemberName = Annotated[
    str,
    Field(
        description="Who holds a role: `user:alice`, `robot:team+ci` or `group:devs`.",
        examples=["user:alice"],
        json_schema_extra={"pattern": f"^((user|group):{_ACCOUNT}|robot:{_ROBOT})$"},
    ),
]
TagName = Annotated[
    str,
    Field(
        description="Name of a tag.",
        examples=["1.0"],
        json_schema_extra={"pattern": f"^{_TAG}$"},
    ),
]
ContentDigest = Annotated[
    str,
    Field(
        description="Digest of a manifest.",
        examples=["sha256:" + "0" * 64],
        json_schema_extra={"pattern": f"^{_DIGEST}$"},
    ),
]
StandsAt = Annotated[
    str,
    Field(
        max_length=200,
        description="The digest at which the tag has to stand, or `nowhere`; else nothing is done (409).",
        examples=["sha256:" + "0" * 64],
        json_schema_extra={"pattern": f"^({_DIGEST}|nowhere)$"},
    ),
]
TagOrDigest = Annotated[
    str,
    Field(
        description="A tag of the repository, or the digest of a manifest in it.",
        examples=["1.4.2"],
        json_schema_extra={"pattern": f"^({_TAG}|{_DIGEST})$"},
    ),
]
ImageReference = Annotated[
    str,
    Field(
        description="`NAME:TAG` or `NAME@DIGEST`.",
        examples=["team/app:1.0"],
        json_schema_extra={"pattern": f"^{_REPOSITORY}(:{_TAG})?(@{_DIGEST})?$"},
    ),
]
UpstreamName = Annotated[
    str,
    Field(
        description="Name of an upstream, a registry whose images are tried.",
        examples=["hub"],
        json_schema_extra={"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": 64},
    ),
]
PlaceKey = Annotated[
    str,
    Field(
        max_length=300,
        description="A repository, or a namespace with a slash at its end.",
        examples=["team/app", "team/"],
    ),
]
Id = Annotated[str, Field(description="What its creation or its list calls `id`.")]
