"""What a spec asks of the network against what the operator permits."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contract.fields import NetworkSpec
from registry.errors import RequestInvalidError
from sandbox.errors import SandboxError
from sandbox.network.gateway import uplink
from sandbox.network.permits import UPLINKS, NetworkPolicy, PinnedNetwork, names_of, parse_permit, pinned

PUBLIC = "93.184.216.34"
METADATA = "169.254.169.254"


def policy(*permits: str, **members: Any) -> NetworkPolicy:
    return NetworkPolicy(tuple(map(parse_permit, permits)), **members)


def ask(
    *egress: dict[str, Any], of: NetworkPolicy, bits: int | None = None, **names: tuple[str, ...]
) -> PinnedNetwork:
    spec = NetworkSpec.model_validate({"egress": egress, "bits_per_second": bits}, strict=False)
    known = {f"{name}.example": tuple(map(IPv4Address, addresses)) for name, addresses in names.items()}
    return pinned(spec, known, of)


def places(network: PinnedNetwork) -> list[str]:
    return [str(one) for one in network.destinations]


def test_an_address_within_a_permitted_range() -> None:
    of = policy("93.184.216.0/24:443")
    assert places(ask({"host": PUBLIC, "port": 443}, of=of)) == [f"{PUBLIC}/32:443"]
    assert places(ask({"cidr": "93.184.216.0/25", "port": 443}, of=of)) == ["93.184.216.0/25:443"]


@pytest.mark.parametrize(
    "wish",
    [
        {"host": PUBLIC, "port": 80},
        {"host": PUBLIC, "port": 443, "protocol": "udp"},
        {"host": "93.184.217.34", "port": 443},
        {"cidr": "93.184.0.0/16", "port": 443},
    ],
)
def test_what_is_not_permitted_is_refused_with_the_option(wish: dict[str, Any]) -> None:
    with pytest.raises(SandboxError) as caught:
        ask(wish, of=policy("93.184.216.0/24:443"))
    assert caught.value.reason == "egress-refused"
    option = caught.value.message.rpartition("--allow-egress ")[2]
    assert places(ask(wish, of=policy(option))) == [option]


@pytest.mark.parametrize("address", ["10.1.2.3", METADATA, "192.168.1.1", "172.16.0.1", "100.64.0.1"])
def test_an_address_that_is_not_public_is_permitted_by_itself_only(address: str) -> None:
    wish = {"host": address, "port": 80}
    with pytest.raises(SandboxError, match=f"--allow-egress {address}/32:80"):
        ask(wish, of=policy("0.0.0.0/0:80"))
    assert places(ask(wish, of=policy(f"{address}:80"))) == [f"{address}/32:80"]


@pytest.mark.parametrize("text", ["10.0.0.0/8:80", "169.254.0.0/16:80", "192.168.1.0/24:443"])
def test_a_range_of_them_cannot_be_permitted(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="one by one"):
        parse_permit(text)


@pytest.mark.parametrize("range_", ["0.0.0.0/0", "160.0.0.0/3", "10.0.0.0/24"])
def test_a_range_that_holds_one_of_them_cannot_be_asked_for(range_: str) -> None:
    with pytest.raises(SandboxError, match=r"no run can reach|one by one"):
        ask({"cidr": range_, "port": 80}, of=policy("0.0.0.0/0:80"))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1"])
def test_what_no_run_can_reach(address: str) -> None:
    with pytest.raises(RequestInvalidError, match="no run can reach"):
        parse_permit(f"{address}:80")
    with pytest.raises(SandboxError, match="no run can reach"):
        ask({"host": address, "port": 80}, of=policy("0.0.0.0/0:80"))


@pytest.mark.parametrize(
    "text", ["", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4/33:1", "1.2.3.4/24:1", "::1:80", "a.b:80"]
)
def test_what_is_no_permit(text: str) -> None:
    with pytest.raises(RequestInvalidError, match="is not CIDR:PORT"):
        parse_permit(text)


def test_a_name_is_pinned_to_its_permitted_addresses() -> None:
    made = ask({"host": "a.example", "port": 443}, of=policy(f"{PUBLIC}:443"), a=(PUBLIC, "1.2.3.4"))
    assert places(made) == [f"{PUBLIC}/32:443"]
    assert made.hosts == ((IPv4Address(PUBLIC), "a.example"),)


def test_only_what_is_permitted_by_itself_may_be_the_host_s_own() -> None:
    wishes = ({"host": PUBLIC, "port": 443}, {"cidr": "93.184.216.0/24", "port": 443})
    made = ask(*wishes, of=policy("93.184.216.0/24:443"))
    assert made.by_itself == ()
    made = ask(*wishes, of=policy("93.184.216.0/24:443", f"{PUBLIC}:443"))
    assert [str(one) for one in made.by_itself] == [f"{PUBLIC}/32:443"]


def test_a_name_that_leads_inside_is_refused_and_tells_nothing() -> None:
    for address in ("10.1.2.3", METADATA, "127.0.0.1"):
        with pytest.raises(SandboxError, match="does not permit") as caught:
            ask({"host": "a.example", "port": 80}, of=policy("0.0.0.0/0:80"), a=(address,))
        assert address not in caught.value.message


def test_the_operators_bandwidth_is_ceiling_and_default() -> None:
    of = policy(f"{PUBLIC}:443", bits_per_second=1_000_000)
    assert ask({"host": PUBLIC, "port": 443}, of=of).bits_per_second == 1_000_000
    assert ask({"host": PUBLIC, "port": 443}, of=of, bits=64_000).bits_per_second == 64_000
    with pytest.raises(SandboxError, match="--egress-bits-per-second 2000000"):
        ask({"host": PUBLIC, "port": 443}, of=of, bits=2_000_000)


def test_names_are_those_that_are_no_addresses() -> None:
    spec = NetworkSpec.model_validate(
        {
            "egress": [
                {"host": "b.example", "port": 1},
                {"host": PUBLIC, "port": 1},
                {"host": "b.example", "port": 2},
            ]
        },
        strict=False,
    )
    assert names_of(spec) == ("b.example",)


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_ranges_of_ids_never_share_an_address(one: int, other: int) -> None:
    mine, yours = uplink(one * 65536), uplink(other * 65536)
    assert IPv4Network((mine[0], 31), strict=True).subnet_of(UPLINKS)
    assert mine[1] == mine[0] + 1
    assert (one == other) or not {*mine} & {*yours}
