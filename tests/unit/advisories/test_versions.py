"""Orders of versions, by tables of what their tools say; versions of dpkg and rpm against the tools
themselves are in tests/integration/advisories."""

from __future__ import annotations

import itertools

import pytest

from registry.advisories.ecosystems import fold, is_distribution, line_of, order_of
from registry.advisories.versions import ORDERS, VersionInvalidError, key_of

# Each line rises from left to right; what stands between two signs of equality is one version.
RISING = {
    "apk": (
        "0.1.0_alpha 0.1.0_alpha2 0.1.0_beta 0.1.0_pre 0.1.0_rc 0.1.0_rc1 0.1.0 0.1.0-r0 0.1.0-r1 0.1.0-r10",
        "0.1.0_alpha_pre2 0.1.0_alpha 0.1.0_alpha-r1 0.1.3_alpha 0.1.3",
        "1.0 1.0_cvs 1.0_svn 1.0_git 1.0_hg 1.0_p 1.0_p1 1.0_p9-r0 1.0_p10-r0 1.0a 1.0a_p1 1.0b 1.0.1",
        "1.2_git20210101 1.2_git20210102 1.2_git20210102-r1 1.2.0",
        "0.9.8c-r1 0.9.8d 0.9.28-r2 0.9.28.1 0.10",
        "1.00_beta2 1.00 1.02 1.02.07 1.02.10-r1 1.03-r1 1.06-r6 1.1 1.12-r7",
        "1.2.07.8 1.2.12.04 1.2.12.05 1.3.3",
        "5.1.6-r6 5.2.1-r3 6b-r7 8 013 014-r1 087-r1 103 104-r9 104-r11 20060512",
        "4.5_p1 4.5_p1-r1 4.5.14",
        "2.9.11_pre20051101 2.9.11_pre20051101-r2 2.9.11_pre20061021-r1 2.9.11",
        "2.0 2.0~0123abc 2.0_p1",
        "3.20.0-r0 3.20.0-r1 3.20.3-r0",
    ),
    "dpkg": (
        "1.0~~ 1.0~~a 1.0~ 1.0~rc1-1 1.0 1.0-0.1 1.0-1 1.0-1+b1 1.0-1+deb12u1 1.0-1.1 1.0a 1.0+ 1.0.0 1:0.1",
        "2.5.0-1 2.5.0-1+deb12u1 2.5.0-1+deb12u2 2.5.0-1+deb12u10",
        "3.0.17-1~deb12u2 3.0.17-1~deb12u3 3.0.17-1",
        "1:2:3-4 1:2:3-5",
    ),
    "rpm": (
        "1.1.1k-7.el8_6 1:1.1.1k-7.el8_6 1:1.1.1k-12.el8_9",
        "1.0~rc1 1.0 1.0^git1 1.0.1 2.0 10.0",
        "1.0a 1.0aa 1.0b 1.01 1.2",
    ),
    "rpm-bare": ("1.1.1k-7.el8_6 1:1.1.1k-8.el8_6 1.1.1k-12.el8_9",),
    "python": ("1.0.dev1 1.0a1 1.0rc1 1.0 1.0+local 1.0.post1 1.1 1!0.1",),
    "semver": (
        "0 0.0.1-0 0.0.1 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1",
        "1.0.0-rc.1 1 1.0.1",
        "4.9.9 v4.17.15 4.17.20 =4.17.21 5",
    ),
    "go": (
        "v0.0.0-20180517173623-c85619274f5d v0.0.0-20190517173623-b85619274f5d v0.3.5 v0.3.6",
        "1.20.14 1.21.0-0 go1.21rc2 1.21.0-rc.3 go1.21 1.21.1 go1.21.13 1.26.8",
        "2.8.5+incompatible 2.8.6 v2.8.7+incompatible",
    ),
    "maven": ("2.0-alpha1 2.0-beta9 2.0-rc1 2.0-SNAPSHOT 2.0 2.0-sp 2.0.1 2.14.1 2.15.0",),
}
SAME = {
    "dpkg": "1.0=0:1.0=1.0-0",
    "rpm": "1.0-1=0:1.0-1",
    "rpm-bare": "1.0-1=0:1.0-1=4:1.0-1",
    "python": "1.0=1.0.0=1=v1.0",
    "semver": "1=1.0=1.0.0=v1.0.0+build7",
    "go": "v2.0.0+incompatible=2.0.0=go2.0",
    "maven": "1=1.0=1.0.0=1-ga",
    "apk": "1.0-r1=1.0-r1",
}
NONE = {
    "dpkg": ("1.0-", ":1", "x:1"),
    "apk": ("1.0bc", "1.0_foo", "v1.0", "1.0-1", "1..0", "(devel)"),
    "rpm": ("x:1", "1:", "-1"),
    "rpm-bare": ("x:1", "1:", "-1"),
    "python": ("dev", "1.0-weird-thing", "2004d.x"),
    "semver": ("1.2.3.4", "latest", "1.0.0-", "git+https://h/x"),
    "go": ("(devel)", "devel", "go"),
    "maven": ("${version}", "-"),
}


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_versions_stand_in_their_order(order: str) -> None:
    for line in RISING[order]:
        versions = [(version, key_of(order, version)) for version in line.split()]
        for (lower, a), (higher, b) in itertools.combinations(versions, 2):
            assert a < b, f"{lower} < {higher}"
            assert not b < a, f"{lower} < {higher}"
            assert a != b, f"{lower} < {higher}"
    for one, other in itertools.permutations(SAME[order].split("="), 2):
        assert key_of(order, one) == key_of(order, other), f"{one} = {other}"
        assert not key_of(order, one) < key_of(order, other), f"{one} = {other}"


@pytest.mark.parametrize("order", sorted(ORDERS))
@pytest.mark.parametrize("version", ["", " ", "1 .0", "1\n0", "\x1b[2J", "1.0é", "9" * 301, "\ud800"])
def test_what_is_no_version_is_said_to_be_none(order: str, version: str) -> None:
    with pytest.raises(VersionInvalidError):
        key_of(order, version)
    for one in NONE[order]:
        with pytest.raises(VersionInvalidError):
            key_of(order, one)


def test_names_are_folded_only_where_the_ecosystem_says_so() -> None:
    assert fold("PyPI", "Zope.Interface__x") == "zope-interface-x"
    assert fold("Go", "github.com/Masterminds/semver") == "github.com/Masterminds/semver"
    assert fold("npm", "JSONStream") == "JSONStream"


def test_ecosystems_have_the_order_of_their_packages() -> None:
    assert [order_of(one) for one in ("Debian:12", "Ubuntu:24.04:LTS", "Alpine:v3.20", "Rocky Linux:8")] == [
        "dpkg",
        "dpkg",
        "apk",
        "rpm",
    ]
    assert [order_of(one) for one in ("PyPI", "npm", "Go", "crates.io", "Maven", "NuGet", "")] == [
        "python",
        "semver",
        "go",
        "semver",
        "maven",
        None,
        None,
    ]
    assert is_distribution("Debian:12")
    assert not is_distribution("PyPI")


@pytest.mark.parametrize(
    ("line", "ecosystems"),
    [
        (
            "Red Hat:enterprise_linux:8",
            ("", "::baseos", "::appstream", "::crb", ".4", ".10::appstream"),
        ),
        ("Red Hat:enterprise_linux:10", (".0", ".1::baseos")),
        ("Red Hat:rhel_eus:8.4::baseos", ("",)),
        ("Red Hat:rhel_software_collections:3::el7", ("",)),
        ("Red Hat:enterprise_linux:2as", ("",)),
        ("Rocky Linux:8", ("",)),
        ("openSUSE:Leap 15.6", ("",)),
    ],
)  # fmt: skip
def test_products_of_red_hat_are_of_one_line_by_release(line: str, ecosystems: tuple[str, ...]) -> None:
    assert {line_of(line + end) for end in ecosystems} == {line}


@pytest.mark.parametrize(
    ("line", "products"),
    [
        (
            "Linux Enterprise 15 SP5",
            (
                "Linux Enterprise Server 15 SP5",
                "Linux Enterprise Server 15 SP5-LTSS",
                "Linux Enterprise Server for SAP Applications 15 SP5",
                "Linux Enterprise High Performance Computing 15 SP5-ESPOS",
                "Linux Enterprise Module for Basesystem 15 SP5",
                "Linux Enterprise Module for Python 3 15 SP5",
                "Linux Enterprise Module for Web and Scripting 15 SP5",
                "Package Hub 15 SP5",
            ),
        ),
        ("Linux Enterprise 15", ("Linux Enterprise Server 15", "Linux Enterprise Module for Legacy 15")),
        ("Linux Enterprise 12 SP2", ("Linux Enterprise Server 12 SP2-BCL",)),
        ("Linux Enterprise 16.0", ("Linux Enterprise Server 16.0",)),
        ("Linux Micro 5.5", ("Linux Enterprise Micro 5.5", "Linux Enterprise Micro for Rancher 5.5")),
        ("Linux Micro 6.0", ("Linux Micro 6.0",)),
        ("Manager Server 5.0", ("Manager Server 5.0",)),
        ("OpenStack Cloud 9", ("OpenStack Cloud 9",)),
    ],
)
def test_products_of_suse_are_of_one_line_by_release(line: str, products: tuple[str, ...]) -> None:
    assert {line_of(f"SUSE:{one}") for one in products} == {f"SUSE:{line}"}
