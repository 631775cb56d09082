from __future__ import annotations

from tests.cli.conftest import api, command, served

__all__ = ["api", "command", "served"]
