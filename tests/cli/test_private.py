from __future__ import annotations

import base64
from pathlib import Path

import pytest

from pipeline.cli._private import ADMIN_KEY, ENCRYPTION_KEYS, keep_keys, write_private
from pipeline.errors import PipelineError
from pipeline.settings import Settings
from tests.cli.started import mode


def test_keys_are_made_once(tmp_path: Path) -> None:
    """Keys that are not set are made, readable by their owner alone, and the same at the next start."""
    made = keep_keys(Settings(data_dir=tmp_path))
    assert made.admin.startswith("pk_")
    assert keep_keys(Settings(data_dir=tmp_path)) == made
    environ = {name.removesuffix("_FILE"): Path(file).read_text() for name, file in made.environ.items()}
    settings = Settings.read(environ)
    assert settings.admin_key == made.admin
    ((name, key),) = settings.keys()
    assert (name, len(key)) == ("local", 32)
    assert {mode(tmp_path / file) for file in (ADMIN_KEY, ENCRYPTION_KEYS)} == {0o600}


def test_keys_of_the_settings_win(tmp_path: Path) -> None:
    """Keys that are set are used, and nothing is kept."""
    given = Settings(data_dir=tmp_path, admin_key="a", encryption_keys=f"k:{base64.b64encode(bytes(32)).decode()}")
    keys = keep_keys(given)
    assert (keys.admin, keys.environ) == ("a", {})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_key_is_never_replaced(tmp_path: Path) -> None:
    """A key file that lost its content stops the start: a new key could not open what the old one sealed."""
    (tmp_path / ENCRYPTION_KEYS).touch()
    with pytest.raises(PipelineError, match=r"encryption\.keys is empty"):
        keep_keys(Settings(data_dir=tmp_path, admin_key="a"))
    assert (tmp_path / ENCRYPTION_KEYS).read_text() == ""


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A new text takes the old one's place, with the owner's permissions, and leaves nothing beside it."""
    file = tmp_path / "api.json"
    file.write_text("a longer text that was there")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), mode(file)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]
