"""The documentation names what there is: its generated pages are current, its links lead somewhere."""

from __future__ import annotations

import json
import re

import pytest

from registry.contract.expectations import Expectations
from registry.contract.specfile import parse_run_spec
from registry.errors import CODES
from registry.settings import PREFIX, Settings
from scripts import hosts, reference
from tests.kit.sources import ROOT, source_files, tracked_files

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_the_generated_pages_are_current(name: str) -> None:
    assert (reference.FOLDER / name).read_text() == reference.pages()[name], "run: make docs"


def test_every_setting_and_error_code_is_named() -> None:
    settings = reference.settings_page()
    for name, field in Settings.model_fields.items():
        assert f"## {name}\n" in settings
        assert field.description
    assert f"`{PREFIX}LISTEN`" in settings
    errors = reference.errors_page()
    assert all(f"`{code}`" in errors for code in CODES)


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in tracked_files()
        if page.suffix == ".md"
        for target in LINK.findall(page.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_examples_of_run_specs_are_such() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "run-spec.md").read_text(), re.DOTALL)
    specs = [parse_run_spec(example) for example in examples]
    # Between them they have one of each.
    each = [one for spec in specs for one in spec.by_case().values()]
    said = {name for spec in each for name in spec.expect.model_dump(exclude_defaults=True)}
    assert said == set(Expectations.model_fields)


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs" / "adr"
    listed = LINK.findall((folder / "README.md").read_text())
    assert sorted(path.name for path in folder.glob("0*.md")) == [
        name for name in listed if "://" not in name
    ]


def test_every_room_is_on_the_plan() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    parts = [path.relative_to(ROOT).parts for path in source_files()]
    rooms = {each[1] for each in parts if len(each) > 2}
    assert {room for room in rooms if f"\n  {room}/ " not in plan} == set()


def test_what_hosts_can_do_was_measured_on_kinds_of_hosts_that_are_listed() -> None:
    files = sorted(hosts.FOLDER.glob("*.json"))
    assert {path.stem for path in files} <= set(hosts.KINDS)
    assert {"root", "privileged-container", "container", "plain-user"} <= {path.stem for path in files}
    for path in files:
        text = path.read_text()
        # No folder of the machine on which it was measured.
        assert re.search(r'"(/|[^"]* /)(tmp|root|home|work)/', text) is None
        document = json.loads(text)
        assert {"kernel", "system", "user", "cgroup_version"} <= set(document["host"])
        assert document["exit_code"] in (0, 1, 2)
