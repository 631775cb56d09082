from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.flow.retry import DEFAULT
from pipeline.settings import Settings

KEY, OTHER = base64.b64encode(bytes(32)).decode(), base64.b64encode(b"k" * 32).decode()
SECRETS = ("API_KEY", "ADMIN_KEY", "ENCRYPTION_KEYS", "SCHEMA_REGISTRY_AUTH", "EGRESS_PROXY", "DATABASE_URL")
CANARY = "canary-7f3a"


def test_the_defaults_listen_nowhere_else() -> None:
    """Without anything set there is the default ladder, loopback alone, and no address of anything."""
    settings = Settings.read({})
    assert settings.ladder == DEFAULT
    assert (settings.health_host, settings.health_port) == ("127.0.0.1", 0)
    assert (settings.bootstrap_servers, settings.schema_registry, settings.egress_allow) == ("", "", "")
    assert not settings.egress_http


def test_the_environment_is_read() -> None:
    """`PIPELINE_` and a setting's name in capitals sets it, typed; what is not ours is left alone."""
    environ = {
        "PIPELINE_BOOTSTRAP_SERVERS": "kafka:9092",
        "PIPELINE_HEALTH_PORT": "8081",
        "PIPELINE_EGRESS_HTTP": "true",
        "PIPELINE_DATA_DIR": "/var/pipeline",
        "BOOTSTRAP_SERVERS": "elsewhere",
        "PIPELINE_UNHEARD_OF": "x",
    }
    settings = Settings.read(environ)
    assert settings.bootstrap_servers == "kafka:9092"
    assert settings.health_port == 8081
    assert settings.egress_http is True
    assert settings.data_dir == Path("/var/pipeline")


@pytest.mark.parametrize(("text", "meant"), [("1", True), ("on", True), ("Yes", True), ("", False), ("0", False)])
def test_a_switch_has_its_words(text: str, meant: bool) -> None:  # noqa: FBT001 - the expected value
    """The usual words for yes and no are taken in any case."""
    assert Settings.read({"PIPELINE_EGRESS_HTTP": text}).egress_http is meant


def test_a_flag_wins() -> None:
    """A flag that was given wins over the environment; one that was not given does not."""
    environ = {"PIPELINE_HEALTH_PORT": "1", "PIPELINE_API_URL": "http://env"}
    settings = Settings.read(environ, health_port=2, api_url=None)
    assert (settings.health_port, settings.api_url) == (2, "http://env")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file(name: str, tmp_path: Path) -> None:
    """`_FILE` names a file with the secret, whose last line break does not count."""
    file = tmp_path / "secret"
    file.write_text(f"{CANARY}\n", encoding="utf-8")
    assert getattr(Settings.read({f"PIPELINE_{name}_FILE": str(file)}), name.lower()) == CANARY


def test_a_secret_of_kafka_s_may_be_in_a_file(tmp_path: Path) -> None:
    """A password of librdkafka's may be in a file too; other properties that end so are its own."""
    file = tmp_path / "secret"
    file.write_text(CANARY, encoding="utf-8")
    environ = {"PIPELINE_KAFKA_SASL_PASSWORD_FILE": str(file), "PIPELINE_KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE": "a"}
    assert Settings.read(environ).kafka == {"sasl.password": CANARY, "sasl.oauthbearer.assertion.file": "a"}


def test_the_variable_wins_over_its_file() -> None:
    """Where both are set the file is not looked at."""
    assert Settings.read({"PIPELINE_API_KEY": "here", "PIPELINE_API_KEY_FILE": "/nowhere"}).api_key == "here"


@pytest.mark.parametrize("variable", ["PIPELINE_ADMIN_KEY_FILE", "PIPELINE_KAFKA_SASL_PASSWORD_FILE"])
def test_a_file_that_cannot_be_read_is_named(variable: str, tmp_path: Path) -> None:
    """A file that is missing or no text is refused with the variable and the path, never with what is in it."""
    for file, content in ((tmp_path / "missing", None), (tmp_path / "binary", b"\xff" + CANARY.encode())):
        if content:
            file.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            Settings.read({variable: str(file)})
        assert variable in str(caught.value)
        assert str(file) in str(caught.value)
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PIPELINE_HEALTH_PORT", "many"),
        ("PIPELINE_HEALTH_PORT", "-1"),
        ("PIPELINE_HEALTH_PORT", "²"),
        ("PIPELINE_HEALTH_PORT", ""),
        ("PIPELINE_EGRESS_HTTP", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_is_refused(variable: str, text: str) -> None:
    """The refusal names the variable."""
    with pytest.raises(SettingsError, match=variable):
        Settings.read({variable: text})


def test_kafka_s_own_properties_pass() -> None:
    """`PIPELINE_KAFKA_SASL_USERNAME` is librdkafka's `sasl.username`."""
    environ = {"PIPELINE_KAFKA_SASL_USERNAME": "me", "PIPELINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    assert Settings.read(environ).kafka == {"sasl.username": "me", "security.protocol": "SASL_SSL"}


@pytest.mark.secrets
def test_no_secret_is_shown(tmp_path: Path) -> None:
    """What is printed of the settings, by `config show` or by accident, has no secret in it."""
    environ = {f"PIPELINE_{name}": CANARY for name in SECRETS}
    kafka = ("SASL_PASSWORD", "SSL_KEY_PASSWORD", "SSL_KEY_PEM", "SASL_OAUTHBEARER_CLIENT_SECRET")
    environ |= {f"PIPELINE_KAFKA_{name}": CANARY for name in kafka}
    settings = Settings.read({**environ, "PIPELINE_KAFKA_SASL_USERNAME": "me"}, data_dir=tmp_path)
    shown = settings.masked()
    assert CANARY not in str(shown)
    assert CANARY not in repr(settings)
    assert [shown[name.lower()] for name in SECRETS] == ["***"] * len(SECRETS)
    assert shown["kafka.sasl.password"] == "***"
    assert (shown["kafka.sasl.username"], shown["data_dir"]) == ("me", str(tmp_path))


def test_every_setting_is_shown() -> None:
    """A setting that is not set is shown as empty, a secret too."""
    shown = Settings.read({}).masked()
    assert set(shown) == {field.name for field in dataclasses.fields(Settings)} - {"kafka"}
    assert shown["admin_key"] == ""


def test_what_is_required_is_named() -> None:
    """A setting that is needed and missing is refused with the option and the variable that set it."""
    with pytest.raises(SettingsError, match="--bootstrap-server or PIPELINE_BOOTSTRAP_SERVERS"):
        Settings.read({}).require("bootstrap_servers")
    with pytest.raises(SettingsError, match="--schema-registry or PIPELINE_SCHEMA_REGISTRY"):
        Settings(bootstrap_servers="x").require("bootstrap_servers", "schema_registry")
    Settings(bootstrap_servers="x").require("bootstrap_servers")


def test_the_keys_are_read_in_their_order() -> None:
    """Each key is id:base64 of 32 bytes; the first, which seals, comes first."""
    assert Settings(encryption_keys=f"new:{KEY}, old:{OTHER},").keys() == (("new", bytes(32)), ("old", b"k" * 32))
    assert Settings().keys() == ()


@pytest.mark.parametrize(
    "text",
    [KEY, f":{KEY}", "id:", "id:short", f"id:{KEY[:-4]}", f"id:{KEY}!", f"id:{base64.b64encode(b'16 bytes').decode()}"],
)
def test_a_key_that_is_none_is_refused(text: str) -> None:
    """A key without id, of another length or in another alphabet is refused, and is not in the message."""
    with pytest.raises(SettingsError, match="PIPELINE_ENCRYPTION_KEYS") as caught:
        Settings(encryption_keys=f"good:{OTHER},{text}").keys()
    assert KEY[:12] not in str(caught.value)
    assert OTHER not in str(caught.value)
