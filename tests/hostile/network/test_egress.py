"""What the operator permits is reached, and nothing else, whatever the run tries."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.contract.report import Mechanism
from sandbox.errors import SandboxError
from sandbox.ids import IdRange
from sandbox.network.gateway import uplink
from sandbox.network.permits import NetworkPolicy, parse_permit
from sandbox.runtimes.execute import Execution
from sandbox.runtimes.sweep import sweep
from tests.kit.internet import (
    DATAGRAMS,
    ELSEWHERE,
    GREETING,
    HOST,
    METADATA,
    NEIGHBOUR,
    OTHER,
    PRIVATE,
    PUBLIC_HOST,
    SINK,
    SITE,
    SIX,
    SOURCE,
    Internet,
    network,
)
from tests.kit.processes import kill_with_its_supervisors
from tests.kit.runs import QUICK, Harbour, image_config, seen

LIMITS = QUICK.model_copy(update={"wall_seconds": 200})
PATIENT = ("PATIENCE=10",)
EVERYWHERE = (SITE, NEIGHBOUR, ELSEWHERE, PRIVATE, METADATA, HOST)


def permit(port: Harbour, *texts: str, bits: int = 100_000_000) -> None:
    port.network = NetworkPolicy(tuple(map(parse_permit, texts)), bits)


async def reaching(
    port: Harbour, root: Path, *words: str, **network: Any
) -> tuple[Execution, dict[str, str]]:
    """Run the program with these words; what it says, by what it tried."""
    spec: dict[str, Any] = {"expect": {"exit": 0}}
    if network:
        spec["network"] = network
    config = image_config("/bin/reach", *words, env=PATIENT)
    done = await port.run(config, spec=spec, limits=LIMITS, root=root)
    assert seen(done) == [True], done
    return done, dict(line.split(": ", 1) for line in done.run.log.splitlines())


def mechanism(done: Execution, name: str) -> Mechanism:
    return next(one for one in done.mechanisms if one.name == name)


def words(*attempts: tuple[str, str, int]) -> list[str]:
    return [word for way, address, port in attempts for word in (way, address, str(port))]


async def test_what_is_permitted_is_reached(port: Harbour, world: Internet, root: Path) -> None:
    permit(port, f"{SITE}:{GREETING}", f"{SITE}:{DATAGRAMS}/udp")
    done, said = await reaching(
        port,
        root,
        *words(("tcp", SITE, GREETING), ("udp", SITE, DATAGRAMS), ("sendto", SITE, DATAGRAMS)),
        egress=[
            {"host": SITE, "port": GREETING},
            {"host": SITE, "port": DATAGRAMS, "protocol": "udp"},
        ],
    )
    assert set(said.values()) == {"hello"}
    assert world.arrived() == {(SITE, "tcp", GREETING), (SITE, "udp", DATAGRAMS)}
    assert done.run.sent_bytes
    assert done.run.received_bytes
    assert mechanism(done, "egress").detail == f"nothing but {SITE}/32:{GREETING}, {SITE}/32:{DATAGRAMS}/udp"
    assert mechanism(done, "network fence").applied
    assert [(one.port, one.protocol, one.attempts, one.permitted) for one in done.run.outbound or ()] == [
        (DATAGRAMS, "udp", 2, True),
        (GREETING, "tcp", 1, True),
    ]


async def test_nothing_else_is_reached(port: Harbour, world: Internet, root: Path) -> None:
    """With one permission: every other address, port and protocol, gateway, host, IPv6, raw packets."""
    permit(port, f"{SITE}:{GREETING}")
    host_end, gateway_end = uplink(port.ids.base)
    attempts = [
        *(
            (way, address, number)
            for way in ("tcp", "udp", "sendto", "fastopen")
            for address in EVERYWHERE
            for number in (GREETING, OTHER, DATAGRAMS)
            if (way, address, number) != ("tcp", SITE, GREETING)
        ),
        *(("tcp", str(address), GREETING) for address in ("192.0.0.3", host_end, gateway_end)),
        *(("udp", str(address), DATAGRAMS) for address in ("192.0.0.3", host_end, gateway_end)),
        *(("tcp", address, GREETING) for address in (SIX, f"::ffff:{ELSEWHERE}", "fe80::1")),
        *(
            ("sendto", address, DATAGRAMS)
            for address in (SIX, f"::ffff:{ELSEWHERE}", "255.255.255.255", "224.0.0.1")
        ),
        *(
            (way, address, 0)
            for way in ("raw", "ping", "packet", "mptcp")
            for address in (SITE, ELSEWHERE, SIX)
        ),
    ]
    attempts = [one for one in attempts if one != ("fastopen", SITE, GREETING)]
    _, said = await reaching(
        port, root, *words(*attempts, ("tcp", SITE, GREETING)), egress=[{"host": SITE, "port": GREETING}]
    )
    assert said.pop(f"tcp {SITE} {GREETING}") == "hello"
    assert len(said) == len(set(attempts))
    assert "hello" not in said.values()
    assert world.arrived() == {(SITE, "tcp", GREETING)}
    assert world.others() == 0


async def test_the_gateway_holds_without_the_fence(port: Harbour, world: Internet, root: Path) -> None:
    """A process of the run's network namespace and outside its control group, with every capability there."""
    permit(port, f"{SITE}:{GREETING}")
    spec = {"expect": {"alive": True}, "network": {"egress": [{"host": SITE, "port": GREETING}]}}
    config = image_config("/bin/sleep", "1000")
    limits = LIMITS.model_copy(update={"alive_seconds": 250, "wall_seconds": 250})
    running = asyncio.create_task(port.run(config, spec=spec, limits=limits, root=root))
    pid = await sleeping(port)
    attempts = words(
        *(("tcp", address, GREETING) for address in EVERYWHERE if address != SITE),
        *(("tcp", SITE, number) for number in (OTHER, SOURCE)),
        ("udp", SITE, DATAGRAMS),
        ("tcp", "192.0.0.3", GREETING),
        ("tcp", str(uplink(port.ids.base)[0]), GREETING),
    )
    allowed = f"PATIENCE=60 $0 tcp {SITE} {GREETING}"
    script = f'ip route add default via 192.0.0.3 && {allowed} && exec "$0" "$@"'
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-c", script, str(root / "bin/reach"), *attempts]
    process = await asyncio.create_subprocess_exec(*inside, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    said = dict(line.split(": ", 1) for line in output.decode().splitlines())
    assert said.pop(f"tcp {SITE} {GREETING}") == "hello"
    assert set(said.values()) == {"no answer"}
    assert world.arrived() == {(SITE, "tcp", GREETING)}


async def test_two_runs_side_by_side_do_not_meet(
    port: Harbour, world: Internet, root: Path, reach: Path
) -> None:
    permit(port, f"{SITE}:{GREETING}")
    spec = {"expect": {"alive": True}, "network": {"egress": [{"host": SITE, "port": GREETING}]}}
    limits = LIMITS.model_copy(update={"alive_seconds": 250, "wall_seconds": 250})
    other = port.rootfs()
    listening = image_config("/bin/sh", "-c", "nc -lk -p 443 -e echo hello & sleep 1000")
    running = asyncio.create_task(port.run(listening, spec=spec, limits=limits, root=other))
    await sleeping(port)
    theirs = port.ids
    port.ids = IdRange(theirs.base + 65536)
    mine = port.rootfs()
    shutil.copy(reach, mine / "bin/reach")
    port.own(mine)
    _, said = await reaching(
        port,
        mine,
        *words(*(("tcp", str(address), 443) for address in (*uplink(theirs.base), "192.0.0.2", "192.0.0.3"))),
        egress=[{"host": SITE, "port": GREETING}],
    )
    port.ids = theirs
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "hello" not in said.values()
    assert world.arrived() == set()


async def test_a_private_address_that_is_permitted_by_itself(
    port: Harbour, world: Internet, root: Path
) -> None:
    permit(port, f"{PRIVATE}:{GREETING}", "0.0.0.0/0:443")
    wish = {"host": PRIVATE, "port": GREETING}
    _, said = await reaching(port, root, *words(("tcp", PRIVATE, GREETING)), egress=[wish])
    assert said == {f"tcp {PRIVATE} {GREETING}": "hello"}
    with pytest.raises(SandboxError, match=f"--allow-egress {METADATA}/32:443"):
        await reaching(port, root, egress=[wish, {"host": METADATA, "port": 443}])
    assert world.arrived() == {(PRIVATE, "tcp", GREETING)}


async def test_the_host_is_in_no_range(port: Harbour, world: Internet, root: Path) -> None:
    wish = {"host": PUBLIC_HOST, "port": GREETING}
    permit(port, f"93.184.0.0/16:{GREETING}")
    _, said = await reaching(port, root, *words(("tcp", PUBLIC_HOST, GREETING)), egress=[wish])
    assert set(said.values()) == {"no answer"}
    permit(port, f"93.184.0.0/16:{GREETING}", f"{PUBLIC_HOST}:{GREETING}")
    _, said = await reaching(port, root, *words(("tcp", PUBLIC_HOST, GREETING)), egress=[wish])
    assert set(said.values()) == {"hello"}


async def test_a_flood_leaves_room_for_the_host_s_connections(
    port: Harbour, world: Internet, root: Path
) -> None:
    permit(port, f"{SITE}:{DATAGRAMS}/udp")
    flood = words(*(("flood", SITE, DATAGRAMS),) * 900)
    wish = {"host": SITE, "port": DATAGRAMS, "protocol": "udp"}
    done, said = await reaching(port, root, *flood, egress=[wish])
    assert set(said.values()) == {"sent"}
    assert done.run.outbound is not None
    assert done.run.outbound[0].attempts == 900
    assert 0 < int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text()) < 600


async def test_eight_runs_at_once(port: Harbour, world: Internet, reach: Path) -> None:
    """Each with links, rules and addresses of its own, made and removed at the same time."""
    wish = {"host": SITE, "port": GREETING}

    async def one(number: int) -> dict[str, str]:
        folder = port.folder / f"harbour{number}"
        folder.mkdir(mode=0o711)
        ids = IdRange(port.ids.base + (number + 1) * 65536)
        mine = Harbour(folder, port.runtime, port.supervisors, ids, count=100 * number + 100)
        permit(mine, f"{SITE}:{GREETING}")
        root = mine.rootfs()
        shutil.copy(reach, root / "bin/reach")
        mine.own(root)
        _, said = await reaching(mine, root, *words(("tcp", SITE, GREETING)), egress=[wish])
        return said

    for said in await asyncio.gather(*map(one, range(8))):
        assert said == {f"tcp {SITE} {GREETING}": "hello"}


@pytest.mark.parametrize("bits", [2_000_000, 16_000_000])
async def test_bandwidth_both_ways(port: Harbour, world: Internet, root: Path, bits: int) -> None:
    permit(port, f"{SITE}:{SOURCE}", f"{SITE}:{SINK}")
    size = str(bits // 4)  # two seconds
    for way, number in (("down", SOURCE), ("up", SINK)):
        # No more than that, ever; and all of it, where the host has a moment's peace.
        for _ in range(8):
            done, said = await reaching(
                port,
                root,
                *(way, SITE, str(number), size),
                egress=[{"host": SITE, "port": SOURCE}, {"host": SITE, "port": SINK}],
                bits_per_second=bits,
            )
            rate, in_all = map(int, re.findall(r"\d+", said[f"{way} {SITE} {number}"]))
            print(f"{way}: asked {bits}, got {rate}, in all {in_all}")
            assert in_all <= 1.15 * bits
            if rate >= 0.85 * bits:
                break
        assert rate >= 0.85 * bits
        assert mechanism(done, "bandwidth").detail == f"{bits} bits per second each way"
        moved = done.run.received_bytes if way == "down" else done.run.sent_bytes
        assert moved
        assert moved >= int(size)


async def test_what_the_operator_did_not_permit_runs_nothing(
    port: Harbour, world: Internet, root: Path
) -> None:
    with pytest.raises(SandboxError, match=r"a\.example:443.*--allow-egress ADDRESS:443") as caught:
        await reaching(port, root, egress=[{"host": "a.example", "port": 443}])
    assert caught.value.reason == "egress-refused"


async def test_a_host_that_does_not_forward_refuses(port: Harbour, world: Internet, root: Path) -> None:
    permit(port, f"{SITE}:{GREETING}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    with pytest.raises(SandboxError, match=r"sysctl net\.ipv4\.ip_forward=1") as caught:
        await reaching(port, root, egress=[{"host": SITE, "port": GREETING}])
    assert caught.value.reason == "isolation-missing"


WORKER = """
import asyncio, pathlib, sys
from sandbox.ids import IdRange
from sandbox.network.permits import NetworkPolicy, parse_permit
from sandbox.runtimes.choose import find_runtime
from sandbox.runtimes.spawn import Supervisors
from tests.kit.runs import QUICK, Harbour, image_config, runtime_name
folder = pathlib.Path(sys.argv[1])
runtime = find_runtime(folder / "state", name=runtime_name())
harbour = Harbour(folder, runtime, Supervisors(), IdRange(int(sys.argv[2])))
harbour.network = NetworkPolicy((parse_permit(sys.argv[3]),))
limits = QUICK.model_copy(update={"alive_seconds": 100, "wall_seconds": 100})
spec = {"expect": {"alive": True}, "network": {"egress": [{"host": sys.argv[3].split(":")[0], "port": 443}]}}
asyncio.run(harbour.run(image_config("/bin/sleep", "1000"), limits=limits, spec=spec))
"""


async def test_what_a_killed_worker_left_is_swept(port: Harbour, world: Internet) -> None:
    before = network()
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, str(port.folder), str(port.ids.base), f"{SITE}:443"),
        cwd=Path(__file__).parents[3],
    )
    await sleeping(port)
    kill_with_its_supervisors(worker.pid)
    await worker.wait()
    assert network().tables != before.tables
    assert len(await asyncio.to_thread(sweep, port.runtime)) == 1
    assert network() == before


async def sleeping(port: Harbour) -> str:
    """The process id of the run's own sleep, once it sleeps."""
    async with asyncio.timeout(60):
        while True:
            for pid in port.processes():
                try:
                    if Path(f"/proc/{pid}/cmdline").read_text().startswith("sleep\0") or Path(
                        f"/proc/{pid}/cmdline"
                    ).read_text().startswith("/bin/sleep\0"):
                        return pid
                except (FileNotFoundError, ProcessLookupError):
                    continue
            await asyncio.sleep(0.02)
