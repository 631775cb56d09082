"""Options that several commands share, and how the API is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from pipeline.cli._output import Format
from pipeline.errors import SettingsError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.http.rest import Rest

API_FILE = "api.json"
"""In the data directory of `pipeline up`, readable by its owner alone: `{"url", "key"}` of the API that runs there."""

Url = Annotated[str | None, typer.Option("--api-url", help="The API. [env: PIPELINE_API_URL]", show_default=False)]
Key = Annotated[str | None, typer.Option("--api-key", help="Its key. [env: PIPELINE_API_KEY]", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where `pipeline up` keeps its data. [env: PIPELINE_DATA_DIR]", show_default=False),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How it is written.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most, newest first.")]
Bootstrap = Annotated[
    str | None,
    typer.Option("--bootstrap-server", help="Kafka. [env: PIPELINE_BOOTSTRAP_SERVERS]", show_default=False),
]
Registry = Annotated[
    str | None,
    typer.Option("--schema-registry", help="The registry. [env: PIPELINE_SCHEMA_REGISTRY]", show_default=False),
]
Tenant = Annotated[str, typer.Argument(help="The tenant's id.", show_default=False)]
Webhook = Annotated[str, typer.Argument(help="The webhook's id.", show_default=False)]


def rest(url: str | None, key: str | None, data_dir: Path | None) -> Rest:
    """The API that the flags, the environment or the data directory name, in this order. Raises `SettingsError`."""
    settings = Settings.read(api_url=url, api_key=key, data_dir=data_dir)
    kept = {} if settings.api_url and settings.api_key else _kept(settings.data_dir / API_FILE)
    found_url, found_key = settings.api_url or kept.get("url", ""), settings.api_key or kept.get("key", "")
    if not found_url:
        raise SettingsError(f"no API: give --api-url or PIPELINE_API_URL, or start `pipeline up` ({settings.data_dir})")
    if not found_key:
        raise SettingsError("no key for the API: give --api-key, PIPELINE_API_KEY or PIPELINE_API_KEY_FILE")
    from pipeline.http.rest import Rest  # noqa: PLC0415 - an HTTP client, for commands that need it

    return Rest(found_url, found_key)


def with_kafka(settings: Settings) -> Settings:
    """The Kafka of the settings with its registry, else those of `pipeline up` on this machine."""
    if settings.bootstrap_servers:
        return settings
    kept = _kept(settings.data_dir / API_FILE)
    registry = settings.schema_registry or kept.get("registry", "")
    return replace(settings, bootstrap_servers=kept.get("bootstrap", ""), schema_registry=registry)


def path(*parts: str) -> str:
    """The API's path of these parts, whatever they hold."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _kept(file: Path) -> dict[str, str]:
    try:
        kept = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} cannot be read") from error
    return kept if isinstance(kept, dict) else {}
