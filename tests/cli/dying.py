"""A role one of whose parts dies: `dying.py ROLE MODULE NAME raises|ends`. Its settings are in the environment."""

from __future__ import annotations

import sys
from importlib import import_module
from operator import attrgetter

from pipeline.cli import _stages
from pipeline.settings import Settings


def main(role: str, module: str, name: str, how: str) -> None:
    """Run the role with something in that part's place that does not last."""

    async def dies(*_arguments: object) -> None:
        if how == "raises":
            raise RuntimeError(f"{name} has died")

    *owners, last = name.split(".")
    owner = import_module(module)
    setattr(attrgetter(".".join(owners))(owner) if owners else owner, last, dies)
    _stages.run(Settings.read(), role, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
