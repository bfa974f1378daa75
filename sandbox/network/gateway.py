"""The way out of a run: a network namespace between it and the host that lets through what is permitted.

    run                  gateway                       host
    eth0 192.0.0.2 ----- run0 192.0.0.3
                         out0 198.18.x.y+1 ----------- stNNNNNNNNNN 198.18.x.y   then by its routes

Three things must all agree before a packet leaves: the run has routes to the permitted addresses and no
other, the gateway forwards one address and port for each permission and nothing else, and so does the host
from this one interface. The bandwidth is held on both sides of the gateway, out of the run's reach. There is
no IPv6 and no resolver. The namespaces have no name: they end with the supervisor and the run, whoever kills
them; what can be left is one table on the host, named after the run, and swept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from registry.contract.report import Mechanism
from sandbox.errors import SandboxError
from sandbox.network.fence import inside
from sandbox.network.permits import (
    DEFAULT_BITS_PER_SECOND,
    GATEWAY_ADDRESS,
    RUN_ADDRESS,
    UPLINKS,
    Destination,
    PinnedNetwork,
)
from sandbox.runtimes.isolation import privileged
from sandbox.runtimes.oci import SEARCH
from sandbox.syscalls import CLONE_NEWNET, enter, unshare

_CALL_SECONDS = 20.0
_TABLE = "seatrial-"
_RANGE_IDS = 65536
_CONNECTIONS = 512
"""Of one run at once, also those that nobody answers: the host's own table of connections is not endless."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that stands. ``namespace`` and ``run`` are descriptors of network namespaces."""

    namespace: int
    run: int
    link: str
    """The host's end."""
    table: str

    def traffic(self) -> tuple[int, int]:
        """Bytes that came in from outside and that went out."""
        for line in Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == self.link:
                fields = numbers.split()
                # What the host's end sent is what the run received.
                return int(fields[8]), int(fields[0])
        return 0, 0

    def close(self) -> None:
        """Remove everything.

        Raises:
            OSError: something may be left.
        """
        with suppress(OSError):
            _call("ip", "link", "delete", self.link)
        _call("nft", "--file", "-", said=_removed(self.table))
        os.close(self.namespace)
        os.close(self.run)


def why_no_egress() -> str | None:
    """Why no run can have a network here, in words for the operator, or ``None``."""
    if not privileged():
        return "a worker without root cannot connect a run to the host's network"
    missing = [name for name in ("ip", "tc", "nft") if shutil.which(name, path=SEARCH) is None]
    if missing:
        return f"{' and '.join(missing)} missing; install the packages iproute2 and nftables"
    if Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii").strip() == "0":
        return "the host does not forward packets: sysctl net.ipv4.ip_forward=1"
    return None


def prove_egress() -> str | None:
    """Make the parts of a gateway in a namespace of the moment, and read them back; why that fails, or
    ``None``.

    For a process with a single thread.
    """
    try:
        namespace = _new_namespace()
        try:
            with inside(namespace):
                _call("nft", "--file", "-", said=_gateway_rules(()))
                _ip("link add run0 type veth peer name eth0")
                _limit("run0", bits_per_second=DEFAULT_BITS_PER_SECOND)
                if _rates() != [DEFAULT_BITS_PER_SECOND // 8]:
                    return "the kernel does not hold the bandwidth"
        finally:
            os.close(namespace)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def open_gateway(
    pid: int, network: PinnedNetwork, *, group: str, run_id: str, id_base: int
) -> tuple[Gateway, tuple[Mechanism, ...]]:
    """Connect the run whose first process is ``pid`` and has not started yet.

    ``group`` names the worker (its cgroup parent), ``id_base`` is the run's own range of ids, from which its
    addresses follow. For a process with a single thread.

    Raises:
        SandboxError: ``isolation-missing``: it cannot be made here, or does not stand as it was asked for.
    """
    why = why_no_egress()
    if why is not None:
        raise SandboxError("isolation-missing", f"the run spec asks for a network: {why}")
    table = table_name(group, run_id)
    link = f"st{hashlib.sha256(table.encode()).hexdigest()[:12]}"
    host, gateway = uplink(id_base)
    run = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    made = Gateway(_new_namespace(), run, link, table)
    try:
        # First what stops, then what connects.
        with inside(run):
            # Loopback keeps its ::1.
            _no_ip6("default")
        with inside(made.namespace):
            _no_ip6("all", "default")
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
            _call("nft", "--file", "-", said=_gateway_rules(network.destinations))
        _call("nft", "--file", "-", said=_host_rules(table, link, gateway, network))
        _ip(f"link add {link} type veth peer name out0 netns {_place(made.namespace)}")
        _no_ip6(link)
        _ip(f"address add {host}/31 dev {link}", f"link set {link} alias {run_id} up")
        with inside(made.namespace):
            _ip(
                f"link add run0 type veth peer name eth0 netns {_place(run)}",
                f"address add {GATEWAY_ADDRESS}/31 dev run0",
                f"address add {gateway}/31 dev out0",
                *("link set run0 up", "link set out0 up", f"route add default via {host}"),
            )
            _limit("run0", "out0", bits_per_second=network.bits_per_second)
        with inside(run):
            # Back-pressure for the run's own sockets; what holds is at the gateway.
            _limit("eth0", bits_per_second=network.bits_per_second)
            _ip(
                f"address add {RUN_ADDRESS}/31 dev eth0",
                "link set eth0 up",
                *(f"route add {one} via {GATEWAY_ADDRESS}" for one in _networks(network.destinations)),
            )
        return made, _verified(made, network)
    except (OSError, ValueError) as error:
        with suppress(OSError):
            made.close()
        raise SandboxError("isolation-missing", f"the run's network cannot be made: {error}") from None


def table_name(group: str, run_id: str) -> str:
    """The name of the table on the host that belongs to a run of the worker with this cgroup parent."""
    return f"{_TABLE}{group.rpartition('/')[2]}-{run_id}"


def network_tables(group: str) -> tuple[str, ...]:
    """Ids of runs of the worker that have a table on the host."""
    if os.geteuid() != 0 or shutil.which("nft", path=SEARCH) is None:
        return ()
    try:
        tables = json.loads(_call("nft", "--json", "list", "tables"))["nftables"]
    except (OSError, ValueError):
        # A kernel without nf_tables has none of ours.
        return ()
    names = [one["table"]["name"] for one in tables if "table" in one]
    prefix = table_name(group, "")
    return tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def remove_table(group: str, run_id: str) -> None:
    """Remove the run's table from the host, if it has one.

    Raises:
        OSError: it is still there.
    """
    if run_id in network_tables(group):
        _call("nft", "--file", "-", said=_removed(table_name(group, run_id)))


def uplink(id_base: int) -> tuple[IPv4Address, IPv4Address]:
    """The host's and the gateway's address of the link between them."""
    first = UPLINKS[id_base // _RANGE_IDS % (UPLINKS.num_addresses // 2) * 2]
    return first, first + 1


def _gateway_rules(destinations: Sequence[Destination]) -> str:
    permitted = "\n".join(
        f'iifname "run0" oifname "out0" {_match(one)} counter accept' for one in destinations
    )
    return f"""table inet seatrial {{
chain forward {{ type filter hook forward priority 0; policy drop;
iifname "run0" ct state new ct count over {_CONNECTIONS} drop
{permitted}
iifname "out0" oifname "run0" ct state established,related counter accept
}}
chain input {{ type filter hook input priority 0; policy drop; }}
chain output {{ type filter hook output priority 0; policy drop; }}
}}
table ip seatrial-source {{
chain postrouting {{ type nat hook postrouting priority 100; oifname "out0" masquerade; }}
}}
"""


def _host_rules(table: str, link: str, gateway: IPv4Address, network: PinnedNetwork) -> str:
    permitted, by_itself = (
        "\n".join(f'iifname "{link}" {_match(one)} accept' for one in some)
        for some in (network.destinations, network.by_itself)
    )
    return f"""table inet {table} {{
chain forward {{ type filter hook forward priority -10;
{permitted}
iifname "{link}" drop
oifname "{link}" ct state established,related accept
oifname "{link}" drop
}}
chain input {{ type filter hook input priority -10;
{by_itself}
iifname "{link}" drop
}}
chain postrouting {{ type nat hook postrouting priority 100; ip saddr {gateway} masquerade; }}
}}
"""


def _match(one: Destination) -> str:
    return f"ip daddr {one.network} {one.protocol} dport {one.port}"


def _removed(table: str) -> str:
    # Adding what is there changes nothing, deleting what is not is an error.
    return f"table inet {table} {{ }}\ndelete table inet {table}\n"


def _verified(made: Gateway, network: PinnedNetwork) -> tuple[Mechanism, ...]:
    with inside(made.namespace):
        rules = json.loads(_call("nft", "--json", "list", "table", "inet", "seatrial"))["nftables"]
        rates = _rates()
    with inside(made.run):
        rates += _rates()
    policies = {one["chain"]["hook"]: one["chain"]["policy"] for one in rules if "chain" in one}
    accepting = [one["rule"] for one in rules if "rule" in one and {"accept": None} in one["rule"]["expr"]]
    if policies != dict.fromkeys(("forward", "input", "output"), "drop"):
        raise ValueError("the gateway does not drop what is not permitted")
    if len(accepting) != len(network.destinations) + 1:
        raise ValueError("the gateway does not hold the rules it was given")
    bytes_per_second = network.bits_per_second // 8
    if len(rates) != 3 or any(rate > bytes_per_second for rate in rates):
        raise ValueError("the kernel does not hold the bandwidth")
    places = ", ".join(str(one) for one in network.destinations)
    return (
        Mechanism(name="egress", applied=True, detail=f"nothing but {places}"[:1000]),
        Mechanism(name="bandwidth", applied=True, detail=f"{bytes_per_second * 8} bits per second each way"),
    )


def _rates() -> list[int]:
    found = json.loads(_call("tc", "-json", "qdisc", "show"))
    return [int(one["options"]["rate"]) for one in found if one["kind"] == "tbf"]


def _limit(*links: str, bits_per_second: int) -> None:
    # A burst of 10 ms, of one full packet at least; a queue of 100 ms.
    burst = max(bits_per_second // 8 // 100, 3200)
    queue = f"root tbf rate {bits_per_second}bit burst {burst} latency 100ms"
    _call("tc", "-batch", "-", said="".join(f"qdisc add dev {link} {queue}\n" for link in links))


def _networks(destinations: Iterable[Destination]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.network) for one in destinations))


def _no_ip6(*links: str) -> None:
    # A kernel without IPv6 has none to turn off.
    for name in links:
        with suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")


def _place(namespace: int) -> str:
    return f"/proc/{os.getpid()}/fd/{namespace}"


def _new_namespace() -> int:
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        try:
            return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            enter(own, CLONE_NEWNET)
    finally:
        os.close(own)


def _ip(*lines: str) -> None:
    _call("ip", "-batch", "-", said="\n".join(lines) + "\n")


def _call(program: str, *arguments: str, said: str = "") -> str:
    try:
        done = subprocess.run(
            [program, *arguments],
            input=said,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CALL_SECONDS,
            env={"PATH": SEARCH},
        )
    except subprocess.TimeoutExpired:
        raise OSError(0, f"{program} was not done after {_CALL_SECONDS:g} s") from None
    if done.returncode != 0:
        text = " ".join((done.stderr or done.stdout).split())
        raise OSError(0, f"{program} {arguments[0]}: {text[:300]}")
    return done.stdout
