"""Messages of the worker protocol, from bytes under a limit to values."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.contract import PROTOCOL_VERSION
from registry.contract.base import Wire
from registry.errors import ProtocolUnsupportedError, RequestInvalidError
from registry.http.body import read_all

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T", bound=Wire)


class _Versioned(BaseModel):
    """All that is looked at before the version is known to be ours."""

    model_config = ConfigDict(strict=True, extra="ignore")
    protocol: int


async def read_message(request: web.Request, kind: type[T], *, limit_bytes: int) -> T:
    """The message in the request's body.

    Raises:
        ContentTooLargeError: longer than the limit, found out without reading on.
        ProtocolUnsupportedError: of another version of the protocol.
        RequestInvalidError: not JSON, or not such a message; with the path of what is wrong.
    """
    return parse_message(await read_all(request, limit_bytes), kind)


def parse_message(raw: bytes, kind: type[T]) -> T:
    """The message in these bytes.

    Raises:
        ProtocolUnsupportedError, RequestInvalidError: as :func:`read_message`.
    """
    try:
        version = _Versioned.model_validate_json(raw).protocol
        if version != PROTOCOL_VERSION:
            raise ProtocolUnsupportedError(
                f"the worker speaks protocol version {version}, this registry version {PROTOCOL_VERSION}; "
                "use the same release on both sides",
                headers={"Upgrade": f"seatrial-worker/{PROTOCOL_VERSION}"},
            )
    except ValidationError as error:
        raise _invalid(error, kind) from None
    return parse_unversioned(raw, kind)


def parse_unversioned(raw: bytes, kind: type[T]) -> T:
    """As :func:`parse_message`, of a message that names no version.

    Raises:
        RequestInvalidError: as :func:`read_message`.
    """
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise _invalid(error, kind) from None


def _invalid(error: ValidationError, kind: type[Wire]) -> RequestInvalidError:
    problems = "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'message'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]
    )
    return RequestInvalidError(f"this is no valid {kind.__name__}: {problems[:1000]}")
