"""Settings: where they come from, which one wins, and what stops a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.settings import PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "seatrial.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_settings() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.listen_port != 5000
    assert settings.gate == "warn"
    assert settings.effective_database_url.startswith("sqlite:///")


def test_each_source_wins_over_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(
        tmp_path,
        'gate = "off"\nvisibility = "public"\nlog_level = "debug"\nlimits.pids = 100\nlimits.cpus = 2\n',
    )
    monkeypatch.setenv("SEATRIAL_VISIBILITY", "internal")
    monkeypatch.setenv("SEATRIAL_LOG_LEVEL", "error")
    monkeypatch.setenv("SEATRIAL_LIMITS__PIDS", "50")
    settings = load_settings(config, log_level="warning", gate=None)
    assert settings.gate == "off"
    assert settings.visibility == "internal"
    assert settings.log_level == "warning"
    assert (settings.limits.pids, settings.limits.cpus) == (50, 2)


def test_a_secret_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:topsecret@h/d\n")
    monkeypatch.setenv("SEATRIAL_DATABASE_URL_FILE", str(secret))
    assert load_settings().effective_database_url == "postgresql://u:topsecret@h/d"
    monkeypatch.setenv("SEATRIAL_DATABASE_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"SEATRIAL_DATABASE_URL_FILE: the file .* cannot be read"):
        load_settings()


@pytest.mark.parametrize("name", ["SERVER", "TOKEN", "CONFIG", "TEST_ADVISORIES"])
def test_variables_of_commands_are_no_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + name, "x")
    assert load_settings() == Settings()


def test_booleans_and_numbers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRIAL_TRIAL_ON_PUSH", "false")
    monkeypatch.setenv("SEATRIAL_TOKEN_SECONDS", "120")
    monkeypatch.setenv("SEATRIAL_TRIAL_PLATFORMS", "linux/amd64, linux/arm64")
    settings = load_settings()
    assert settings.trial_on_push is False
    assert settings.token_seconds == 120
    assert settings.trial_platforms == ("linux/amd64", "linux/arm64")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('gat = "off"', "gat: there is no such setting"),
        ("limits.pid = 5", "limits.pid: there is no such setting"),
        ('gate = "maybe"', "gate: "),
        ('listen = "8470"', "listen: must be HOST:PORT"),
        ('listen = "h:70000"', "listen: must be HOST:PORT"),
        ('external_url = "registry.example"', "external_url: must be http"),
        ('external_url = "https://h/path"', "external_url: must be http"),
        ("token_seconds = 3600", "token_seconds: "),
        ('trial_platforms = ["windows"]', "trial_platforms: "),
        ("limits.pids = 60000", "limits.pids is above ceiling.pids"),
        ("= 1", "is not TOML"),
    ],
)
def test_what_stops_a_start(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text))
    assert said in caught.value.message
    assert "Value error" not in caught.value.message


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRIAL_GATES", "off")
    monkeypatch.setenv("SEATRIAL_TOKEN_SECONDS", "soon")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "gates: there is no such setting" in caught.value.message
    assert "token_seconds: " in caught.value.message
    assert "soon" not in caught.value.message


def test_a_wrong_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRIAL_EXTERNAL_URL", "https://user:topsecret@h")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "topsecret" not in str(caught.value)


def test_a_settings_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "none.toml")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().gate = "off"  # type: ignore[misc]


def test_trusted_proxies_are_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATRIAL_TRUSTED_PROXIES", "10.0.0.0/8, ::1,")
    networks = ["10.0.0.0/8", "::1/128"]
    assert [str(network) for network in load_settings().trusted_proxies] == networks
    monkeypatch.delenv("SEATRIAL_TRUSTED_PROXIES")
    config = write(tmp_path, 'trusted_proxies = ["10.0.0.0/8", "::1"]')
    assert [str(network) for network in load_settings(config).trusted_proxies] == networks
    for wrong, why in (
        ("10.0.0.1/8", "trusted_proxies: '10.0.0.1/8' is no network such as .*has host bits set"),
        ("proxy.example", "trusted_proxies: 'proxy.example' is no network"),
    ):
        with pytest.raises(SettingsError, match=why):
            load_settings(trusted_proxies=wrong)


def test_tls_settings_belong_together() -> None:
    with pytest.raises(SettingsError, match="one is missing"):
        load_settings(tls_key_file="key.pem")
    pair = {"tls_certificate_file": "certificate.pem", "tls_key_file": "key.pem"}
    with pytest.raises(SettingsError, match="tls_certificate_file names one"):
        load_settings(tls="self-signed", **pair)
    with pytest.raises(
        SettingsError, match=r"external_url: .*without a path: clients look for /v2/ at the root"
    ):
        load_settings(external_url="https://registry.example/prefix")
    assert (load_settings(**pair).scheme, load_settings().scheme) == ("https", "http")
