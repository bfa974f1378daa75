"""The connection to an S3 service: made, checked at start, and its faults in the words of the contract."""

from __future__ import annotations

import configparser
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from registry.errors import (
    BlobUnknownError,
    BlobUploadUnknownError,
    SeatrialError,
    StorageFullError,
    UnavailableError,
)
from registry.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger
    from types_boto3_s3 import S3Client

    from registry.storage.s3url import S3Location

log: FilteringBoundLogger = structlog.get_logger("seatrial.storage")

FAULTS = (BotoCoreError, ClientError, ResponseParserError, HTTPError, OSError, RecursionError)
"""What a call to the service may raise; the last when all that it answers is to ask elsewhere."""
RETRY_SECONDS = "5"
_NO_ROOM = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "NotEnoughSpace"})
_NO_OBJECT = frozenset({"NoSuchKey", "404", "NotFound"})
_DEFAULT_REGION = "us-east-1"
_KEY_ID, _SECRET, _TOKEN = "aws_access_key_id", "aws_secret_access_key", "aws_session_token"
_REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "404": "there is no such bucket",
    "InvalidAccessKeyId": "the service does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "InvalidToken": "the session token is not valid",
    "ExpiredToken": "the session token has expired",
    "RequestTimeTooSkewed": "the clock of this host and that of the service differ too much",
    "AccessDenied": "the credentials do not give the right to list the bucket",
    "403": "the credentials are refused",
    "AllAccessDisabled": "access to the bucket is switched off",
    "PermanentRedirect": "the bucket is in another region; give region=",
    "AuthorizationHeaderMalformed": "the bucket is in another region; give region=",
    "IllegalLocationConstraintException": "the bucket is in another region; give region=",
}


class Credentials:
    """Keys from a file of ours; shown nowhere."""

    __slots__ = ("key_id", "secret", "token")

    def __init__(self, key_id: str, secret: str, token: str | None) -> None:
        self.key_id = key_id
        self.secret = secret
        self.token = token

    def __repr__(self) -> str:
        return "Credentials(…)"


def read_credentials(path: Path) -> Credentials:
    """Read the section ``default`` of a file in the form of ``~/.aws/credentials``.

    Raises:
        SettingsError: it cannot be read, or a key is missing. The message has nothing of its content.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["default"]
        return Credentials(section[_KEY_ID], section[_SECRET], section.get(_TOKEN))
    except OSError as error:
        raise SettingsError(f"storage_credentials_file: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, configparser.Error, KeyError):
        raise SettingsError(
            f"storage_credentials_file: {path} must have a section [default] with {_KEY_ID} and {_SECRET}"
        ) from None


def make_client(
    location: S3Location, credentials: Credentials | None, *, endpoint_url: str | None
) -> S3Client:
    """A client, which any number of threads may use.

    Every call of ours may be made again when no answer came: objects have names of their own, parts their
    numbers, and who completes an upload a second time looks whether the object is there.

    Raises:
        SettingsError: the location cannot be used like this.
    """
    keys = {}
    if credentials is not None:
        keys = {_KEY_ID: credentials.key_id, _SECRET: credentials.secret, _TOKEN: credentials.token}
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": location.addressing},
        max_pool_connections=location.connections,
        connect_timeout=location.connect_seconds,
        read_timeout=location.read_seconds,
        retries={"mode": "standard", "total_max_attempts": location.attempts},
        # Parts and small objects carry checksums of our own making; nothing is computed a second time.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # Both log the headers of requests, and that a connection more than are kept was opened.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        session = boto3.session.Session()
        region = location.region or session.region_name or _DEFAULT_REGION
        verify = str(location.ca_file) if location.ca_file else None
        client: S3Client = session.client(
            "s3", region_name=region, endpoint_url=endpoint_url, verify=verify, config=config, **keys
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"storage_url: {error}") from None
    return client


def check(client: S3Client, location: S3Location) -> None:
    """Ask for the bucket once.

    Raises:
        SettingsError: it is not there, not ours, or out of reach; the message says which.
    """
    where = f"storage_url: bucket {location.bucket} at {location.endpoint_url or 'AWS'}"
    try:
        client.list_objects_v2(Bucket=location.bucket, Prefix=location.prefix, MaxKeys=1)
    except (NoCredentialsError, PartialCredentialsError):
        raise SettingsError(
            f"{where}: there are no credentials; set storage_credentials_file, or one of the sources that "
            "AWS's tools read"
        ) from None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise SettingsError(f"{where}: {_REASONS.get(code, 'the service refuses')} ({code})") from None
    except SSLError:
        raise SettingsError(f"{where}: its certificate is not trusted; give ca_file=") from None
    except (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError):
        raise SettingsError(f"{where}: nothing answers there") from None
    except RecursionError:
        raise SettingsError(f"{where}: it redirects to another address; give that one") from None
    except FAULTS as error:
        raise SettingsError(f"{where}: {type(error).__name__}") from None


def code_of(error: BaseException) -> str:
    """The service's word for an error, or the name of ours where it did not answer."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) or "unknown"
    return type(error).__name__


@contextmanager
def s3_faults(what: str, key: str) -> Iterator[None]:
    """Turn what a call raises into the errors of the contract; the log has the reason.

    Raises:
        BlobUnknownError: there is no such object.
        BlobUploadUnknownError: there is no such multipart upload.
        StorageFullError: no room.
        UnavailableError: everything else.
    """
    try:
        yield
    except FAULTS as error:
        raise _translated(error, what, key) from None


def _translated(error: BaseException, what: str, key: str) -> SeatrialError:
    code = code_of(error)
    if code in _NO_OBJECT:
        return BlobUnknownError("the blob's bytes are not in the store")
    if code == "NoSuchUpload":
        return BlobUploadUnknownError("the upload was cancelled meanwhile")
    log.warning("the object store failed", call=what, key=key, code=code)
    if code in _NO_ROOM:
        return StorageFullError("the blob store has no room")
    return UnavailableError(
        "the blob store does not answer as it should; try again", headers={"Retry-After": RETRY_SECONDS}
    )
