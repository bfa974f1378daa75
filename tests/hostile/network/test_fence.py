"""Without a network: what a run tries is seen, and the fence holds where the namespace would not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from registry.contract.report import Outbound
from sandbox.runtimes.cgroups import find_cgroups
from tests.hostile.network.test_egress import mechanism, reaching, sleeping, words
from tests.kit.internet import DATAGRAMS, ELSEWHERE, GREETING, HOST, METADATA, SITE, SIX, Internet
from tests.kit.runs import QUICK, Harbour, image_config


async def test_attempts_are_seen_and_fail_at_once(port: Harbour, world: Internet, root: Path) -> None:
    attempts = [
        *(("tcp", SITE, GREETING),) * 3,
        ("udp", ELSEWHERE, DATAGRAMS),
        ("sendto", ELSEWHERE, DATAGRAMS),
        ("fastopen", ELSEWHERE, 80),
        ("tcp", SIX, 80),
        ("sendto", SIX, 81),
        ("tcp", f"::ffff:{METADATA}", 80),
        *(("tcp", address, 80) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0")),
    ]
    done, said = await reaching(port, root, *words(*attempts))
    assert said[f"tcp {SITE} {GREETING}"] == "Network is unreachable"
    assert said["tcp 127.0.0.1 80"] == "Connection refused"
    assert done.run.outbound == (
        Outbound(address=SITE, port=GREETING, protocol="tcp", attempts=3),
        Outbound(address=ELSEWHERE, port=DATAGRAMS, protocol="udp", attempts=2),
        Outbound(address=ELSEWHERE, port=80, protocol="tcp", attempts=1),
        Outbound(address=METADATA, port=80, protocol="tcp", attempts=1),
        Outbound(address=SIX, port=80, protocol="tcp", attempts=1),
        Outbound(address=SIX, port=81, protocol="udp", attempts=1),
    )
    assert world.arrived() == set()
    assert mechanism(done, "network fence").applied
    assert not mechanism(done, "egress").applied


async def test_the_list_of_attempts_is_bounded(port: Harbour, world: Internet, root: Path) -> None:
    done, _ = await reaching(port, root, *words(*(("udp", ELSEWHERE, number) for number in range(1, 201))))
    assert done.run.outbound is not None
    assert len(done.run.outbound) == 65
    assert done.run.outbound[0] == Outbound(address="others", port=0, protocol="other", attempts=136)


async def test_the_fence_holds_in_the_hosts_network(port: Harbour, world: Internet, root: Path) -> None:
    """As if the run had never got a network namespace: a process of its control group, in the host's."""
    limits = QUICK.model_copy(update={"alive_seconds": 250, "wall_seconds": 250})
    running = asyncio.create_task(
        port.run(image_config("/bin/sleep", "1000"), spec={"expect": {"alive": True}}, limits=limits)
    )
    await sleeping(port)
    unified = find_cgroups().unified
    if unified is None:
        pytest.skip("needs cgroup version 2 mounted")
    group = unified / port.runtime.cgroup_parent.lstrip("/") / "run2"
    attempts = words(
        ("tcp", SITE, GREETING), ("udp", METADATA, DATAGRAMS), ("tcp", HOST, GREETING), ("tcp", SIX, 80)
    )
    outside = await try_from(group.parent, root, attempts)
    inside = await try_from(group, root, attempts)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert outside[f"tcp {SITE} {GREETING}"] == "hello"
    assert set(inside.values()) == {"Operation not permitted"}


async def try_from(group: Path, root: Path, attempts: list[str]) -> dict[str, str]:
    """What the program says in a control group and in the namespace of the caller."""
    process = await asyncio.create_subprocess_exec(
        *(
            "sh",
            "-c",
            f'echo $$ > {group}/cgroup.procs && PATIENCE=10 exec "$0" "$@"',
            str(root / "bin/reach"),
            *attempts,
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert os.WIFEXITED(process.returncode or 0)
    return dict(line.split(": ", 1) for line in output.decode().splitlines())
