"""The S3 driver while the service breaks off, loses answers, is slow, or is too busy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from types_boto3_s3 import S3Client

from registry.errors import UnavailableError
from registry.oci.digest import digest_of
from registry.storage.s3 import S3Store
from registry.storage.s3client import make_client, read_credentials
from registry.storage.s3url import parse_s3_url
from tests.integration.storage.conftest import MakeS3
from tests.kit.blobstore_contract import pattern, read, source
from tests.kit.faultproxy import FAULTS, Fault, FaultProxy, fault_proxy
from tests.kit.s3 import S3Server

CONTENT = pattern(6_000_000)
CALLS = (
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "HeadObject",
    "GetObject",
    "DeleteObject",
    "List",
)

ONCE, IMPATIENT, OFTEN = (1, 60), (1, 4), (3, 60)
LOST = ("lose", "delay")
# The one is among the above, the other waits for as long as its like.
SKIPPED = {("SlowDown", call) for call in CALLS} | {("delay", "GetObject")}
HARD = ("UploadPart", "CompleteMultipartUpload", "GetObject")
CASES: list[tuple[Fault, str]] = [("SlowDown", call) for call in CALLS] + [
    (fault, call) for fault in FAULTS for call in HARD if (fault, call) not in SKIPPED
]


@pytest.fixture(scope="module")
def running_proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint_url.removeprefix("http://")) as running:
        yield running


@pytest.fixture
def proxy(running_proxy: FaultProxy) -> FaultProxy:
    running_proxy.heal()
    running_proxy.calls.clear()
    return running_proxy


@pytest.fixture(scope="module")
def clients(s3: S3Server, running_proxy: FaultProxy) -> dict[tuple[int, int], S3Client]:
    """Clients that go through the proxy, by how often they try and how many seconds they wait."""
    made = {}
    for attempts, seconds in (ONCE, IMPATIENT, OFTEN):
        url = s3.url(endpoint_url=f"http://{running_proxy.host}", read_seconds=seconds, attempts=attempts)
        location, keys = parse_s3_url(url), read_credentials(s3.credentials)
        made[attempts, seconds] = make_client(location, keys, endpoint_url=location.endpoint_url)
    return made


@dataclass
class Life:
    """An upload and then a blob, which in turn two replicas work on, so that each tail is fetched."""

    stores: tuple[S3Store, S3Store]
    locator: str

    async def tail(self, store: S3Store) -> None:
        await self._append(store, 100_000)

    async def part(self, store: S3Store) -> None:
        await self._append(store, 5_700_000)

    async def rest(self, store: S3Store) -> None:
        await self._append(store, len(CONTENT))

    async def finish(self, store: S3Store) -> None:
        assert await store.finish(self.locator, digest_of(CONTENT)) == len(CONTENT)

    async def read(self, store: S3Store) -> None:
        assert await read(store, self.locator) == CONTENT

    async def delete(self, store: S3Store) -> None:
        await store.delete(self.locator)

    async def _append(self, store: S3Store, end: int) -> None:
        at = await store.upload_size(self.locator)
        pieces = [CONTENT[start : min(start + 400_000, end)] for start in range(at, end, 400_000)]
        assert await store.append(self.locator, source(*pieces), offset=at) == end

    async def run(self, proxy: FaultProxy) -> list[tuple[str, Mapping[str, str]]]:
        """Each step until it is done: one that fails does so once, since what broke it is healed then.

        Returns what was said then.
        """
        said: list[tuple[str, Mapping[str, str]]] = []
        for number, step in enumerate((self.tail, self.part, self.rest, self.finish, self.read, self.delete)):
            store = self.stores[number % 2]
            try:
                await step(store)
            except UnavailableError as error:
                said.append((error.message, error.headers))
                proxy.heal()
                await step(store)
        return said


async def begin(make_store: MakeS3, client: S3Client) -> Life:
    stores = make_store(client), make_store(client)
    return Life(stores, await stores[0].start_upload())


async def nothing_is_left(s3: S3Server, prefix: str, store: S3Store) -> None:
    assert s3.keys(prefix) == []
    assert s3.multipart_uploads(prefix) == []
    assert [name async for name in store.list_older(datetime.now(UTC) + timedelta(hours=1))] == []


@pytest.mark.parametrize("case", CASES, ids="-".join)
async def test_what_fails_can_be_asked_for_again(
    *,
    make_store: MakeS3,
    clients: dict[tuple[int, int], S3Client],
    proxy: FaultProxy,
    s3: S3Server,
    prefix: str,
    case: tuple[Fault, str],
) -> None:
    fault, call = case
    life = await begin(make_store, clients[IMPATIENT if fault == "delay" else ONCE])
    proxy.break_always(fault, call)
    said = await life.run(proxy)
    assert proxy.calls[call] > 0
    # Where the service has done it, a look tells; and half of an answer may be enough.
    assert len(said) == 1 or (call == "CompleteMultipartUpload" and fault in LOST) or fault == "truncate"
    for message, headers in said:
        assert headers["Retry-After"] == "5"
        assert proxy.host not in message
    await nothing_is_left(s3, prefix, make_store())


@pytest.mark.parametrize("fault", ["refuse", "lose", "truncate", "SlowDown"])
async def test_one_fault_of_each_kind_is_not_even_seen(
    *,
    make_store: MakeS3,
    clients: dict[tuple[int, int], S3Client],
    proxy: FaultProxy,
    s3: S3Server,
    prefix: str,
    fault: Fault,
) -> None:
    life = await begin(make_store, clients[OFTEN])
    proxy.break_each_once(fault)
    assert await life.run(proxy) == []
    assert set(CALLS) <= set(proxy.calls)
    await nothing_is_left(s3, prefix, make_store())
