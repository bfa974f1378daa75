"""helm: charts, whose versions have a plus sign where tags have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.clients import ClientError, Clients
from tests.kit.server import ADMIN, Registry

PLAIN = "--plain-http"


@pytest.fixture
def charts(clients: Clients) -> dict[str, Path]:
    """Packaged charts by version."""
    folder = clients.folder / "ship"
    (folder / "templates").mkdir(parents=True)
    (folder / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n"
    )
    made = {}
    for version in ("1.2.3+build.5", "1.4.0", "2.0.0-rc.1"):
        (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: ship\nversion: {version}\n")
        clients.run("helm", "package", folder, "--destination", clients.folder / "packages")
        made[version] = clients.folder / "packages" / f"ship-{version}.tgz"
    return made


def test_charts_are_pushed_and_pulled_by_range(
    clients: Clients, registry: Registry, charts: dict[str, Path], tmp_path: Path
) -> None:
    repository = f"oci://{registry.host}/helm/charts"
    for chart in charts.values():
        clients.run("helm", "push", PLAIN, chart, repository)
    tags = clients.run("oras", "repo", "tags", PLAIN, f"{registry.host}/helm/charts/ship").split()
    assert tags == ["1.2.3_build.5", "1.4.0", "2.0.0-rc.1"]
    for asked, version in (
        ("1.2.3+build.5", "1.2.3+build.5"),
        ("~1.2", "1.2.3+build.5"),
        ("^1.0", "1.4.0"),
        (">=2.0.0-0", "2.0.0-rc.1"),
        ("", "1.4.0"),
    ):
        into = tmp_path / f"for {asked}"
        into.mkdir()
        given = ("--version", asked) if asked else ()
        clients.run("helm", "pull", PLAIN, *given, "--destination", into, f"{repository}/ship")
        assert (into / f"ship-{version}.tgz").read_bytes() == charts[version].read_bytes()
    shown = clients.run("helm", "show", "chart", PLAIN, "--version", "^1.0", f"{repository}/ship")
    assert "version: 1.4.0" in shown
    made = clients.run("helm", "template", "sea", PLAIN, "--version", "~1.2", f"{repository}/ship")
    assert "name: sea" in made
    manifest = clients.run("oras", "manifest", "fetch", PLAIN, f"{registry.host}/helm/charts/ship:1.4.0")
    assert json.loads(manifest)["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"


def test_signing_in_and_pulling_without(
    stranger: Clients,
    registry: Registry,
    make_public: Callable[[str], str],
    charts: dict[str, Path],
    tmp_path: Path,
) -> None:
    name = make_public("public/charts/ship")
    repository = f"oci://{name.removesuffix('/ship')}"
    login = ("helm", "registry", "login", PLAIN, registry.host, "--username", ADMIN, "--password-stdin")
    with pytest.raises(ClientError, match="the user name and password or the token are not valid"):
        stranger.run(*login, stdin="wrong")
    stranger.run(*login, stdin=registry.token)
    stranger.run("helm", "push", PLAIN, charts["1.4.0"], repository)
    stranger.run("helm", "registry", "logout", registry.host)
    stranger.run("helm", "pull", PLAIN, "--version", "^1", "--destination", tmp_path, f"oci://{name}")
    assert (tmp_path / "ship-1.4.0.tgz").read_bytes() == charts["1.4.0"].read_bytes()
    with pytest.raises(ClientError, match="sign in to push public/charts/ship"):
        stranger.run("helm", "push", PLAIN, charts["1.2.3+build.5"], repository)
