"""Settings, read once: flag, else environment (`PIPELINE_*`, `PIPELINE_*_FILE` for secrets), else default."""

from __future__ import annotations

import base64
import binascii
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError

PREFIX = "PIPELINE_"
KAFKA_PREFIX = "PIPELINE_KAFKA_"
_SECRETS = frozenset(
    {"api_key", "admin_key", "encryption_keys", "schema_registry_auth", "egress_proxy", "database_url"}
)
_KEY_BYTES = 32
_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting. The environment's names are the fields' in capitals, after `PIPELINE_`.

    `kafka` holds librdkafka's own properties, from `PIPELINE_KAFKA_SASL_USERNAME=…` (→ `sasl.username`).
    """

    bootstrap_servers: str = ""
    schema_registry: str = ""
    schema_registry_auth: str = field(default="", repr=False)
    api_url: str = ""
    api_key: str = field(default="", repr=False)
    admin_key: str = field(default="", repr=False)
    encryption_keys: str = field(default="", repr=False)
    database_url: str = field(default="", repr=False)
    ladder: str = "retry-5s retry-20s retry-60s retry-3m retry-10m retry-30m retry-1h retry-6h"
    egress_allow: str = ""
    egress_ca: str = ""
    egress_proxy: str = field(default="", repr=False)
    egress_http: bool = False
    disable_after: str = "120h"
    disable_attempts: int = 20
    egress_name_servers: str = ""
    log_retention: str = "30d"
    data_dir: Path = Path("data")
    instance_id: str = field(default_factory=socket.gethostname)
    health_port: int = 0
    health_host: str = "127.0.0.1"
    log_level: str = "info"
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, **flags: object) -> Settings:
        """The settings in force. `flags` that are None were not given. Raises `SettingsError` naming the variable."""
        given = {name: value for name, value in flags.items() if value is not None}
        from_env = {
            f.name: text
            for f in fields(cls)
            if f.name != "kafka" and (text := _from_environ(environ, f.name)) is not None
        }
        kafka = dict(_kafka(environ, name) for name in environ if name.startswith(KAFKA_PREFIX))
        known = cls()
        typed = {name: _typed(name, getattr(known, name), text) for name, text in from_env.items()}
        changes: dict[str, Any] = {"kafka": kafka, **typed, **given}
        return replace(known, **changes)

    def masked(self) -> dict[str, str]:
        """Every setting as text, secrets as `***`."""
        shown = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "kafka"}
        shown |= {f"kafka.{name}": value for name, value in self.kafka.items()}
        return {name: "***" if value and _is_secret(name) else value for name, value in shown.items()}

    def require(self, *names: str) -> None:
        """Refuse to go on without these. Raises `SettingsError` with the option and the variable to set."""
        for name in names:
            if not getattr(self, name):
                option = "--" + name.replace("_", "-").removesuffix("s")
                raise SettingsError(f"{name.replace('_', ' ')} is not set: give {option} or {PREFIX}{name.upper()}")

    def keys(self) -> tuple[tuple[str, bytes], ...]:
        """The encryption keys as (id, 32 bytes); the first seals. Raises `SettingsError` when one cannot be read."""
        found = tuple(_encryption_key(word) for word in self.encryption_keys.split(",") if word.strip())
        names = [name for name, _ in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SettingsError(f"{PREFIX}ENCRYPTION_KEYS: two keys are called {twice!r}: give each an id of its own")
        return found


def _from_environ(environ: Mapping[str, str], name: str) -> str | None:
    variable = PREFIX + name.upper()
    if variable in environ:
        return environ[variable]
    if name not in _SECRETS or variable + "_FILE" not in environ:
        return None
    return _from_file(environ, variable + "_FILE")


def _kafka(environ: Mapping[str, str], variable: str) -> tuple[str, str]:
    """A property of librdkafka; one that is a secret may be in a file."""
    name = variable.removeprefix(KAFKA_PREFIX).lower().replace("_", ".")
    if name.endswith(".file") and _is_secret(name.removesuffix(".file")):
        return name.removesuffix(".file"), _from_file(environ, variable)
    return name, environ[variable]


def _from_file(environ: Mapping[str, str], variable: str) -> str:
    file = environ[variable]
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{variable}: {file} is not UTF-8 text") from error


def _typed(name: str, default: object, text: str) -> object:
    variable = PREFIX + name.upper()
    match default:
        case bool():
            if text.lower() not in _YES | _NO:
                raise SettingsError(f"{variable}={text!r}: true or false is needed")
            return text.lower() in _YES
        case int():
            if not (text.isascii() and text.isdigit()):
                raise SettingsError(f"{variable}={text!r}: a whole number is needed")
            return int(text)
        case Path():
            return Path(text)
        case _:
            return text


def _is_secret(name: str) -> bool:
    return name in _SECRETS or any(word in name for word in ("password", "secret", "pem", "token"))


def _encryption_key(word: str) -> tuple[str, bytes]:
    name, _, text = word.strip().partition(":")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not name or len(raw) != _KEY_BYTES:
        raise SettingsError(
            f"{PREFIX}ENCRYPTION_KEYS: each key is id:base64 of {_KEY_BYTES} bytes, separated by commas"
        )
    return name, raw
