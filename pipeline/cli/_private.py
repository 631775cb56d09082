"""What `up` keeps for itself in the data directory: files that only their owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli._options import API_FILE
from pipeline.errors import PipelineError
from pipeline.settings import Settings

ADMIN_KEY = "admin.key"
ENCRYPTION_KEYS = "encryption.keys"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """The platform's key, and how processes are told of both keys: by environment or files, never by arguments."""

    admin: str
    environ: dict[str, str]


def keep_keys(settings: Settings) -> Keys:
    """The keys of the settings; others are made once and kept, so that a restart opens what was sealed."""
    environ, admin = {}, settings.admin_key
    if not admin:
        path = settings.data_dir / ADMIN_KEY
        admin = _kept(path, lambda: f"pk_{secrets.token_urlsafe(_KEY_BYTES)}")
        environ["PIPELINE_ADMIN_KEY_FILE"] = str(path)
    if not settings.encryption_keys:
        path = settings.data_dir / ENCRYPTION_KEYS
        _kept(path, lambda: f"local:{base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()}")
        environ["PIPELINE_ENCRYPTION_KEYS_FILE"] = str(path)
    return Keys(admin, environ)


def write_api(settings: Settings) -> Path:
    """Tell the command line where the API is, with its key, and where Kafka and the registry are."""
    path = settings.data_dir / API_FILE
    write_private(path, json.dumps(found(settings)))
    return path


def found(settings: Settings) -> dict[str, str]:
    """What `api.json` holds."""
    places = {"bootstrap": settings.bootstrap_servers, "registry": settings.schema_registry}
    return {"url": settings.api_url, "key": settings.api_key, **places}


def write_private(path: Path, text: str) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with open(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The file's text; made when there is none.

    What cannot be read is never replaced: all that it sealed would be lost.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        text = make()
        write_private(path, text)
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not text:
        raise PipelineError(f"{path} is empty: restore it, or remove it together with the rest of {path.parent}")
    return text
