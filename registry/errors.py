"""The exception tree, and the one table that says how each error looks on the wire.

Every error a caller can provoke is an instance of :class:`SeatrialError`. It names what was wrong and why
in one sentence that is safe to show to the caller: never a secret, a host path or another tenant's name.
The same table renders the OCI envelope under ``/v2/`` (distribution-spec, "Error Codes") and RFC 9457
problem documents under ``/api/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One row of the table: the HTTP status and what the code means, for the reference page."""

    status: int
    meaning: str


CODES: Mapping[str, ErrorCode] = MappingProxyType(
    {
        # distribution-spec, "Error Codes"
        "BLOB_UNKNOWN": ErrorCode(404, "the blob is not in this repository"),
        "BLOB_UPLOAD_INVALID": ErrorCode(400, "the upload cannot be continued like this"),
        "BLOB_UPLOAD_UNKNOWN": ErrorCode(404, "there is no such upload session in this repository"),
        "DIGEST_INVALID": ErrorCode(400, "the digest is malformed, unsupported or not that of the content"),
        "MANIFEST_BLOB_UNKNOWN": ErrorCode(
            400, "the manifest refers to content that is not in this repository"
        ),
        "MANIFEST_INVALID": ErrorCode(400, "the manifest breaks the image specification"),
        "MANIFEST_UNKNOWN": ErrorCode(404, "there is no such manifest or tag in this repository"),
        "NAME_INVALID": ErrorCode(400, "the repository name breaks the grammar"),
        "NAME_UNKNOWN": ErrorCode(404, "there is no such repository"),
        "SIZE_INVALID": ErrorCode(400, "the length given does not match the content"),
        "UNAUTHORIZED": ErrorCode(401, "sign in, or ask for a token that covers this"),
        "DENIED": ErrorCode(403, "known caller, but a rule or a verdict refuses this"),
        "UNSUPPORTED": ErrorCode(405, "the registry does not do this"),
        "TOOMANYREQUESTS": ErrorCode(429, "too many requests; wait as long as Retry-After says"),
        # extras that docker's registry uses too
        "TAG_INVALID": ErrorCode(400, "the tag breaks the grammar"),
        "PAGINATION_NUMBER_INVALID": ErrorCode(400, "n is not a number of entries"),
        "RANGE_INVALID": ErrorCode(416, "the range is not where the upload or the content stands"),
        "UNKNOWN": ErrorCode(500, "a fault of the registry; the log has it under the request id"),
        "UNAVAILABLE": ErrorCode(503, "try again later"),
        # our own
        "REQUEST_INVALID": ErrorCode(400, "the request is malformed"),
        "NOT_FOUND": ErrorCode(404, "there is no such thing, or it is not yours to see"),
        "METHOD_NOT_ALLOWED": ErrorCode(405, "this address does not take that method"),
        "REQUEST_TIMEOUT": ErrorCode(408, "the request arrives too slowly; what came of an upload is kept"),
        "CONFLICT": ErrorCode(409, "the thing is not in the state that this needs"),
        "PRECONDITION_FAILED": ErrorCode(
            412, "a condition of the request does not hold; nothing was changed"
        ),
        "CONTENT_TOO_LARGE": ErrorCode(413, "the body is larger than the stated limit"),
        "MEDIA_TYPE_UNSUPPORTED": ErrorCode(415, "the body's type or encoding is not taken here"),
        "IDEMPOTENCY_KEY_REUSED": ErrorCode(422, "the Idempotency-Key was used for another request"),
        "PROTOCOL_UNSUPPORTED": ErrorCode(426, "worker and registry speak different protocol versions"),
        "STORAGE_FULL": ErrorCode(507, "the blob store has no room; nothing was stored"),
    }
)


class SeatrialError(Exception):
    """Root of every error that may reach a caller.

    ``detail`` is a JSON value for programs; ``headers`` go with the response (``Retry-After``, challenges).
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self, message: str, *, detail: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.headers: Mapping[str, str] = headers or {}

    @property
    def status(self) -> int:
        """HTTP status from the table."""
        return CODES[self.code].status


class BlobUnknownError(SeatrialError):
    code = "BLOB_UNKNOWN"


class BlobUploadInvalidError(SeatrialError):
    code = "BLOB_UPLOAD_INVALID"


class BlobUploadUnknownError(SeatrialError):
    code = "BLOB_UPLOAD_UNKNOWN"


class DigestInvalidError(SeatrialError):
    code = "DIGEST_INVALID"


class ManifestBlobUnknownError(SeatrialError):
    code = "MANIFEST_BLOB_UNKNOWN"


class ManifestInvalidError(SeatrialError):
    code = "MANIFEST_INVALID"


class ManifestUnknownError(SeatrialError):
    code = "MANIFEST_UNKNOWN"


class NameInvalidError(SeatrialError):
    code = "NAME_INVALID"


class NameUnknownError(SeatrialError):
    code = "NAME_UNKNOWN"


class SizeInvalidError(SeatrialError):
    code = "SIZE_INVALID"


class UnauthorizedError(SeatrialError):
    """No token, a bad one, or one that does not cover the action; another token could help."""

    code = "UNAUTHORIZED"


class DeniedError(SeatrialError):
    """Known caller, refused by a right, a rule or the gate; no other token of theirs would help."""

    code = "DENIED"


class GateRefusedError(DeniedError):
    """The gate refuses to let content be read. ``reason`` is the sentence without its advice, ``digest`` that
    of the image, ``trial`` the id of its newest trial, ``findings`` those that decide, the first few of
    ``findings_count``."""

    def __init__(
        self,
        message: str,
        *,
        repository: str,
        reason: str,
        digest: str | None,
        trial: str | None,
        headers: Mapping[str, str],
        findings: Sequence[Mapping[str, object]] = (),
        findings_count: int = 0,
    ) -> None:
        detail: dict[str, object] = {"trial": trial, "digest": digest}
        if findings_count:
            detail |= {"findings": list(findings), "findings_count": findings_count}
        super().__init__(message, detail=detail, headers=headers)
        self.repository = repository
        self.reason = reason
        self.digest = digest
        self.trial = trial


class UnsupportedError(SeatrialError):
    code = "UNSUPPORTED"


class TooManyRequestsError(SeatrialError):
    code = "TOOMANYREQUESTS"


class TagInvalidError(SeatrialError):
    code = "TAG_INVALID"


class PaginationInvalidError(SeatrialError):
    code = "PAGINATION_NUMBER_INVALID"


class RangeInvalidError(SeatrialError):
    code = "RANGE_INVALID"


class UnavailableError(SeatrialError):
    code = "UNAVAILABLE"


class RequestInvalidError(SeatrialError):
    code = "REQUEST_INVALID"


class NotFoundError(SeatrialError):
    code = "NOT_FOUND"


class MethodNotAllowedError(SeatrialError):
    code = "METHOD_NOT_ALLOWED"


class RequestTimeoutError(SeatrialError):
    code = "REQUEST_TIMEOUT"


class ConflictError(SeatrialError):
    code = "CONFLICT"


class PreconditionFailedError(SeatrialError):
    code = "PRECONDITION_FAILED"


class ContentTooLargeError(SeatrialError):
    code = "CONTENT_TOO_LARGE"


class MediaTypeUnsupportedError(SeatrialError):
    code = "MEDIA_TYPE_UNSUPPORTED"


class IdempotencyKeyReusedError(SeatrialError):
    code = "IDEMPOTENCY_KEY_REUSED"


class ProtocolUnsupportedError(SeatrialError):
    code = "PROTOCOL_UNSUPPORTED"


class StorageFullError(SeatrialError):
    code = "STORAGE_FULL"
