"""Our part of a bucket: the calls to the service, each blocking, and how the objects are named.

::

    PREFIX/blobs/NN/LOCATOR         a blob; NN are the last two digits of the locator
    PREFIX/uploads/LOCATOR/EPOCH    the tail of an upload: what was too little for a part
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from urllib3.exceptions import HTTPError

from registry.errors import BlobUnknownError, BlobUploadUnknownError, UnavailableError
from registry.storage.ledger import Part
from registry.storage.s3client import FAULTS, RETRY_SECONDS, code_of, log, s3_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from botocore.response import StreamingBody
    from types_boto3_s3 import S3Client

    from registry.storage.s3url import S3Location
    from registry.storage.spool import Spool

_TYPE = "application/octet-stream"


READ_BYTES = 1 << 18
_RESUMES = 3


@dataclass(frozen=True, slots=True)
class Object:
    """A whole object, or a range of it, as it begins to arrive."""

    size: int
    etag: str
    body: StreamingBody


class Reader:
    """Reads an object, or a range of it, in order; goes on where the service broke off.

    All calls block, and come one after the other.
    """

    def __init__(self, bucket: Bucket, key: str, opened: Object, *, first: int = 0) -> None:
        self.position = first
        self._end = first + opened.size
        self._bucket = bucket
        self._key = key
        self._etag = opened.etag
        self._body: StreamingBody | None = opened.body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes that follow, at least one; none at the end.

        Raises:
            UnavailableError: the service broke off again and again, or the object has changed.
        """
        size = min(size, self._end - self.position)
        if size <= 0:
            return b""
        for attempt in range(_RESUMES):
            try:
                if self._body is None:
                    self._body = self._bucket.get(
                        self._key, first=self.position, last=self._end - 1, etag=self._etag
                    ).body
                block: bytes = self._body.read(size)
                if block:
                    self.position += len(block)
                    return block
            except FAULTS as error:
                log.info("reading an object broke off", key=self._key, attempt=attempt, code=code_of(error))
            except BlobUnknownError:
                break
            self.close()
        log.warning("an object could not be read to its end", key=self._key, at=self.position)
        raise UnavailableError(
            "the blob store broke off in the middle of a blob", headers={"Retry-After": RETRY_SECONDS}
        )

    def close(self) -> None:
        """Give the connection up, or back if everything was read."""
        body, self._body = self._body, None
        if body is not None:
            body.close()


class Bucket:
    """Calls may raise what :func:`~registry.storage.s3client.s3_faults` names."""

    def __init__(self, client: S3Client, location: S3Location) -> None:
        self._client = client
        self._bucket = location.bucket
        self._prefix = location.prefix
        self._class: dict[str, Any] = (
            {"StorageClass": location.storage_class} if location.storage_class else {}
        )
        self._sha256 = location.checksums == "when_supported"

    @property
    def sum_algorithm(self) -> str:
        """What spools for this bucket compute."""
        return "sha256" if self._sha256 else "md5"

    def blob_key(self, locator: str) -> str:
        """Where the blob is, or will be."""
        return f"{self._prefix}blobs/{locator[-2:]}/{locator}"

    def tail_key(self, locator: str, epoch: int) -> str:
        """Where the tail is that was written under this epoch."""
        return f"{self._prefix}uploads/{locator}/{epoch}"

    def put(self, key: str, spool: Spool, *, is_blob: bool) -> None:
        """Store the spool as one object."""
        spool.seek(0)
        more: dict[str, Any] = self._sum(spool) | (self._class if is_blob else {})
        with s3_faults("PutObject", key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=spool,
                ContentLength=spool.length,
                ContentType=_TYPE,
                **more,
            )

    def size(self, key: str) -> int:
        """Length of the object in bytes.

        Raises:
            BlobUnknownError: there is none.
        """
        with s3_faults("HeadObject", key):
            answer = self._client.head_object(Bucket=self._bucket, Key=key)
            return int(_told(answer, "ContentLength"))

    def get(self, key: str, *, first: int = 0, last: int | None = None, etag: str | None = None) -> Object:
        """Begin to read: all, or from ``first`` to ``last``; only if it is still that of ``etag``.

        Raises:
            BlobUnknownError: there is none.
        """
        more: dict[str, Any] = {"IfMatch": etag} if etag else {}
        if first or last is not None:
            more["Range"] = f"bytes={first}-{'' if last is None else last}"
        with s3_faults("GetObject", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key, **more)
            return Object(_told(answer, "ContentLength"), _told(answer, "ETag"), answer["Body"])

    def blocks(self, key: str) -> Iterator[bytes]:
        """All bytes of an object.

        Raises:
            BlobUnknownError: there is none.
        """
        with Reader(self, key, self.get(key)) as reader:
            while block := reader.read(READ_BYTES):
                yield block

    def ping(self) -> None:
        """Ask whether the bucket is there."""
        with s3_faults("HeadBucket", self._bucket):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except FAULTS as error:
                raise UnavailableError(f"the bucket does not answer ({code_of(error)})") from None

    def delete(self, key: str) -> None:
        """Remove the object, if it is there."""
        with s3_faults("DeleteObject", key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def begin_parts(self, key: str) -> str:
        """Begin a multipart upload and return its id."""
        more: dict[str, Any] = dict(self._class)
        if self._sha256:
            more["ChecksumAlgorithm"] = "SHA256"
        with s3_faults("CreateMultipartUpload", key):
            answer = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ContentType=_TYPE, **more
            )
            return str(_told(answer, "UploadId"))

    def send_part(self, key: str, multipart_id: str, number: int, spool: Spool) -> Part:
        """Store the spool as one part.

        Raises:
            BlobUploadUnknownError: the upload was completed or aborted.
        """
        spool.seek(0)
        checksum: dict[str, Any] = self._sum(spool)
        with s3_faults("UploadPart", key):
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=multipart_id,
                PartNumber=number,
                Body=spool,
                ContentLength=spool.length,
                **checksum,
            )
            etag = _told(answer, "ETag")
        return Part(number, spool.length, etag, checksum.get("ChecksumSHA256"))

    def complete(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Make the parts the object. That it is one already, by a call whose answer was lost, is fine.

        Raises:
            BlobUploadUnknownError: the upload was aborted.
            UnavailableError: the service did not say that it is done; or the blob has another size.
        """
        listed: list[Any] = [
            {"PartNumber": part.number, "ETag": part.etag}
            | ({"ChecksumSHA256": part.checksum} if part.checksum else {})
            for part in parts
        ]
        failed: Exception | None = None
        try:
            with s3_faults("CompleteMultipartUpload", key):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=multipart_id, MultipartUpload={"Parts": listed}
                )
        except (BlobUploadUnknownError, UnavailableError) as error:
            failed = error
        length = sum(part.size for part in parts)
        try:
            size = self.size(key)
        except BlobUnknownError:
            raise failed or UnavailableError("the blob store lost a blob that it has just taken") from None
        if size != length:
            log.error("the object store made a blob of another size", key=key, size=size, expected=length)
            raise UnavailableError("the blob store made a blob of another size than it was sent")

    def abort(self, key: str, multipart_id: str) -> None:
        """Give the parts up; fine when they are gone."""
        try:
            with s3_faults("AbortMultipartUpload", key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id)
        except BlobUploadUnknownError:
            return

    def clear_tails(self, locator: str) -> None:
        """Remove every tail that any request has left of this upload."""
        for key in self._keys(f"{self._prefix}uploads/{locator}/", None):
            self.delete(key)

    def clear_parts(self, locator: str) -> None:
        """Give up every multipart upload that anybody has begun under this locator."""
        key = self.blob_key(locator)
        for found, multipart_id in self._multiparts(key, None):
            if found == key:
                self.abort(key, multipart_id)

    def clear_all_parts(self) -> None:
        """Give up every multipart upload that anybody has begun under the prefix."""
        for key, multipart_id in self._multiparts(self._prefix, None):
            self.abort(key, multipart_id)

    def old_blobs(self, before: datetime) -> Iterator[str]:
        """Locators of blobs written before this time."""
        for key in self._keys(f"{self._prefix}blobs/", before):
            yield key.rpartition("/")[2]

    def old_uploads(self, before: datetime) -> set[str]:
        """Locators under which a tail was written, or a multipart upload begun, before this time."""
        prefix = f"{self._prefix}uploads/"
        found = {key.removeprefix(prefix).partition("/")[0] for key in self._keys(prefix, before)}
        begun = self._multiparts(f"{self._prefix}blobs/", before)
        return found | {key.rpartition("/")[2] for key, _ in begun}

    def key(self, name: str) -> str:
        """Where the file of this name is, for those who keep no blobs here."""
        return f"{self._prefix}{name}"

    def sizes(self, folder: str) -> dict[str, int]:
        """The objects directly below the folder: name within it, and bytes."""
        prefix = self.key(f"{folder}/" if folder else "")
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        with s3_faults("ListObjectsV2", prefix):
            return {
                entry["Key"].removeprefix(prefix): entry["Size"]
                for page in pages
                for entry in page.get("Contents", ())
            }

    def _sum(self, spool: Spool) -> dict[str, Any]:
        return {"ChecksumSHA256" if self._sha256 else "ContentMD5": spool.checksum()}

    def _keys(self, prefix: str, before: datetime | None) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with s3_faults("ListObjectsV2", prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    if before is None or entry["LastModified"] < before:
                        yield entry["Key"]

    def _multiparts(self, prefix: str, before: datetime | None) -> Iterator[tuple[str, str]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        with s3_faults("ListMultipartUploads", prefix):
            for page in pages:
                for entry in page.get("Uploads", ()):
                    if before is None or entry["Initiated"] < before:
                        yield entry["Key"], entry["UploadId"]


def _told(answer: Mapping[str, Any], name: str) -> Any:
    if name not in answer:
        # A proxy between may have cut the header short, and what is left was a header too.
        raise HTTPError(f"the answer has no {name}")
    return answer[name]
