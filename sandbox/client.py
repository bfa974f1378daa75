"""The registry as a worker sees it: claim, renew, report. No token ever reaches a log or a message."""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from registry.contract import PROTOCOL_VERSION
from registry.contract.base import LEASE, Wire, as_before, first_problem
from registry.contract.job import ClaimRequest, ClaimResponse, RenewRequest, RenewResponse
from registry.contract.livelog import LogChunk, LogTaken
from registry.contract.report import Report, dump_report
from registry.contract.scan import Scan
from sandbox.pinning import Pin

ANSWER_MAX_BYTES = 4 * 1024 * 1024
ANSWER_SECONDS = 30.0
SCAN_SECONDS = 120.0
T = TypeVar("T", bound=Wire)


class RegistryUnreachable(Exception):  # noqa: N818  (a state of the world; the worker tries again)
    """No answer, or one that says to come back: worth another try."""


class LeaseOver(Exception):  # noqa: N818  (a state of the world; the worker drops the run)
    """The lease is not, or no longer, this worker's."""


class RegistryRefusal(Exception):  # noqa: N818  (what the registry said; the worker ends)
    """The registry will not have this worker or this message, however often it is sent."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class JobUnknown(Exception):  # noqa: N818  (what the registry asked; the worker says that it cannot)
    """A job with something in it that this version does not know: its registry is newer."""

    def __init__(self, lease: str, digest: str, platform: str, message: str) -> None:
        super().__init__(message)
        self.lease = lease
        self.digest = digest
        self.platform = platform


class _Named(BaseModel):
    """All of a job that is needed to say that it cannot be done."""

    model_config = ConfigDict(extra="ignore")
    lease: str = Field(pattern=LEASE)
    digest: str
    platform: str


class _NamedJob(BaseModel):
    model_config = ConfigDict(extra="ignore")
    job: _Named


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore")
    message: str = ""


class _Problem(BaseModel):
    """Problem details, or what the distribution API says instead."""

    model_config = ConfigDict(extra="ignore")
    detail: str = ""
    errors: tuple[_Said, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryClient:
    """One registry at ``url``, spoken to with a worker's token; ``pin`` is its certificate, if only that one
    is trusted."""

    url: str
    session: aiohttp.ClientSession = field(repr=False)
    pin: Pin | None = None
    heard: Callable[[float | None], None] = lambda _: None
    """Called for each answer that was no refusal, with how many seconds its clock is ahead of ours."""

    @property
    def tls(self) -> ssl.SSLContext | bool:
        """What to shake hands with, as aiohttp takes it."""
        return self.pin.context() if self.pin else True

    async def claim(
        self,
        platforms: tuple[str, ...],
        *,
        wait_seconds: float,
        slots: int = 1,
        disk_bytes: int | None = None,
        disk_most_bytes: int | None = None,
        mechanisms: tuple[str, ...] | None = None,
    ) -> ClaimResponse:
        """Ask for a job, and wait for one to come up; ``slots`` are how many leases there is room for,
        ``disk_bytes`` how much disk the job may take and ``disk_most_bytes`` how much it ever may,
        ``mechanisms`` the isolation that its run can have.

        Raises:
            RegistryUnreachable, RegistryRefusal: as their names say.
            JobUnknown: there is one, which this worker does not understand.
        """
        asked = ClaimRequest(
            protocol=PROTOCOL_VERSION,
            platforms=platforms,
            wait_seconds=wait_seconds,
            slots=slots,
            disk_bytes=disk_bytes,
            disk_most_bytes=disk_most_bytes,
            mechanisms=mechanisms,
        )
        seconds = wait_seconds + ANSWER_SECONDS
        try:
            raw = await self._post("claim", asked, seconds=seconds)
        except RegistryRefusal as refusal:
            if refusal.status != 400:
                raise
            # An older registry takes no message that says more than it knows of, so it cannot be told that
            # there is no room.
            if disk_bytes == 0:
                return ClaimResponse(protocol=PROTOCOL_VERSION, job=None)
            raw = await self._post("claim", as_before(asked), seconds=seconds)
        return parse_claim(raw)

    async def renew(self, lease: str) -> float:
        """Keep a lease; how many seconds it lives from now.

        Raises:
            LeaseOver, RegistryUnreachable, RegistryRefusal: as their names say.
        """
        raw = await self._post("renew", RenewRequest(protocol=PROTOCOL_VERSION, lease=lease))
        return _parse(raw, RenewResponse).lease_seconds

    async def tell_log(self, chunk: LogChunk) -> LogTaken:
        """Tell some output of a run that goes on; where the next begins.

        Raises:
            LeaseOver, RegistryUnreachable, RegistryRefusal: as their names say.
        """
        return _parse(await self._post("log", chunk), LogTaken)

    async def report(self, report: Report, *, news: bool = True) -> None:
        """End a lease with what was seen; without ``news`` as a registry of the version before knows it.

        Raises:
            LeaseOver, RegistryUnreachable, RegistryRefusal: as their names say.
        """
        await self._post("report", dump_report(report, news=news))

    async def scan(self, scan: Scan) -> None:
        """Say what was found in the image of a lease, before its report.

        Raises:
            LeaseOver, RegistryUnreachable, RegistryRefusal: as their names say.
        """
        await self._post("scan", scan, seconds=SCAN_SECONDS)

    async def _post(self, action: str, message: Wire | bytes, *, seconds: float = ANSWER_SECONDS) -> bytes:
        raw_message = message if isinstance(message, bytes) else message.model_dump_json().encode()
        try:
            async with self.session.post(
                f"{self.url}/worker/v1/{action}",
                # A report with its log may be long; as a file it is sent in pieces.
                data=io.BytesIO(raw_message),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=10),
                allow_redirects=False,
                ssl=self.tls,
            ) as response:
                raw = await _read(response)
                status, date = response.status, response.headers.get("Date", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RegistryUnreachable(f"the registry cannot be reached: {_why(error)}") from None
        if status in (200, 204):
            self.heard(ahead_seconds(date))
            return raw
        said = f"the registry answered {status}: {_detail(raw)}"
        if status == 409:
            raise LeaseOver(said)
        if status == 429 or status >= 500:
            raise RegistryUnreachable(said)
        raise RegistryRefusal(status, said)


@asynccontextmanager
async def registry_client(
    url: str, token: str, *, pin: Pin | None = None, heard: Callable[[float | None], None] = lambda _: None
) -> AsyncIterator[RegistryClient]:
    """A client whose connections live as long as the block; ``heard`` as :class:`RegistryClient` says."""
    headers = {"Authorization": f"Bearer {token}", "User-Agent": "seatrial-worker"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield RegistryClient(url.rstrip("/"), session, pin, heard)
        # TLS connections need a moment of the loop to end.
        await asyncio.sleep(0)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > ANSWER_MAX_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too long")
    return bytes(raw)


def parse_claim(raw: bytes) -> ClaimResponse:
    """The answer to a claim.

    Raises:
        RegistryRefusal: it is none.
        JobUnknown: it is one, of a newer version.
    """
    try:
        return _parse(raw, ClaimResponse)
    except RegistryRefusal as refusal:
        try:
            job = _NamedJob.model_validate_json(raw).job
        except ValidationError:
            raise refusal from None
        raise JobUnknown(job.lease, job.digest, job.platform, str(refusal)) from None


def _parse(raw: bytes, kind: type[T]) -> T:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        # The values are left out: an answer to a claim holds a token.
        raise RegistryRefusal(
            200, f"the registry's answer is not understood ({first_problem(error)})"
        ) from None


def _why(error: Exception) -> str:
    """In words, with what to do about it where that is known."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = error.certificate_error
        said = getattr(why, "verify_message", "") or str(why)
        return (
            f"its certificate is not trusted here ({said}): name the file of its authority with "
            "SSL_CERT_FILE, and look at this host's clock"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"there is no TLS at this address ({error.os_error}): https:// or http://?"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"[:300]


def ahead_seconds(date: str) -> float | None:
    """By how much the clock that wrote this ``Date`` is ahead of ours; ``None``: it is no date."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _detail(raw: bytes) -> str:
    try:
        problem = _Problem.model_validate_json(raw)
        said = problem.detail or next((one.message for one in problem.errors), "")
    except ValidationError:
        said = ""
    return "".join(c if c.isprintable() else " " for c in said)[:500] or "no reason given"
