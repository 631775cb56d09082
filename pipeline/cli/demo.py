"""`pipeline demo`: `up`, and a tenant, a verifying receiver and events of every product."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.cli import _output
from pipeline.cli._demo_scene import BROKEN, Endpoints, Part, send, set_up
from pipeline.cli._demo_score import Score, as_json
from pipeline.cli._demo_view import View, table
from pipeline.cli._logs import configure
from pipeline.cli._options import Output
from pipeline.cli._output import Format
from pipeline.cli._platform import LOCAL, LOOPBACK, Plan, platform, ready_line, together
from pipeline.cli._until_told import INTERRUPTED, until_told
from pipeline.cli.up import ApiPort, Bootstrap, KafkaPort, Registry, RegistryPort, Routers, Senders
from pipeline.errors import Unreachable, UsageError
from pipeline.http.rest import Rest
from pipeline.kafka.watch import Seen, watching
from pipeline.profiles import Example, examples
from pipeline.settings import Settings

app = typer.Typer()

SETTLED_S = 60.0
"""From `ready`: by then everything that `--once` sends must have ended."""
_BATCH = 5
_PAUSE_S = 0.3
_STREAM_S = 2.0
_REFRESH_S = 0.2
_LOOK_S = 0.1


@app.command()
def demo(  # noqa: PLR0917 - Typer's options
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIPELINE_DATA_DIR",
            help="Where records, keys and logs are kept; a fresh folder that is removed at the end by default.",
        ),
    ] = None,
    kafka_port: KafkaPort = 0,
    registry_port: RegistryPort = 0,
    api_port: ApiPort = 0,
    routers: Routers = 1,
    senders: Senders = 1,
    bootstrap_server: Bootstrap = None,
    schema_registry: Registry = None,
    output: Output = Format.TABLE,
    *,
    once: Annotated[bool, typer.Option("--once", help="End when all is settled; exit code 1 if it is not.")] = False,
) -> None:
    """Run everything on this machine and watch events of every product arrive, signed and verified.

    Each product gets a tenant, a webhook and a receiver that checks the product's own rule. One receiver is unwell at
    first (503, so a retry is seen), one is gone (410, so a dead letter is seen). Without --once a further event is sent
    now and then until Ctrl-C, and a file `broken/PRODUCT` in the data directory, holding a status, breaks a receiver.
    """
    if output is not Format.TABLE and not once:
        raise UsageError("-o json tells how it ended: give --once too")
    ports = (kafka_port, registry_port, api_port)
    given = {"bootstrap_servers": bootstrap_server, "schema_registry": schema_registry}
    settings = Settings.read({**LOCAL, **os.environ}, **given)
    configure(settings.log_level)
    folder = data_dir or Path(tempfile.mkdtemp(prefix="pipeline-demo-"))
    local = f"{settings.egress_allow} {LOOPBACK}"
    settings = replace(settings, data_dir=folder, egress_allow=local, egress_proxy="")
    plan, code = Plan(settings, *ports, routers, senders), 1
    try:
        code = until_told(partial(_demo, plan, output, once=once))
    finally:
        if data_dir is None:
            _put_away(folder, code)
    raise typer.Exit(code)


def _put_away(folder: Path, code: int) -> None:
    """Remove the folder, unless its logs may tell what went wrong."""
    if code in (0, INTERRUPTED):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _output.aside(f"logs are kept in {folder / 'logs'}")


async def _demo(plan: Plan, output: Format, *, once: bool) -> int:
    view = View()
    broken = plan.settings.data_dir / BROKEN
    async with Endpoints(lambda profile, request: view.received(profile.title, request), broken) as endpoints:
        settings = replace(plan.settings, egress_ca=str(endpoints.ca_file))
        async with platform(replace(plan, settings=settings), view.say) as running:
            _output.text(ready_line(running))
            until = time.monotonic() + SETTLED_S if once else None
            with Rest(running.api_url, running.api_key) as api:
                show = await _Show.of(api, endpoints, view)
                if not once:
                    place = f"PIPELINE_DATA_DIR={running.data_dir}"
                    listed = _output.command(f"webhooks list {show.parts[0].tenant}")
                    view.say(f"look around from another terminal: {place} {listed}")
                    view.say(f"break a receiver: echo 500 > {broken}/monitorqa; repair it: rm {broken}/monitorqa")
                left = await show.perform(running, until)
            return _result(show.score, left, output)


def _result(score: Score, left: list[str], output: Format) -> int:
    """How it ended: the figures on stdout, what is open on stderr."""
    for line in left:
        _output.aside(f"open: {line}")
    if output is Format.TABLE:
        Console(highlight=False).print(table(score))
    else:
        _output.line(as_json(score.totals()))
    return 1 if left else 0


@dataclass(slots=True)
class _Show:
    """Sends, follows what becomes of it, and shows it."""

    api: Rest
    parts: tuple[Part, ...]
    score: Score
    view: View
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @classmethod
    async def of(cls, api: Rest, endpoints: Endpoints, view: View) -> _Show:
        """The scene is set, nothing is sent yet."""
        parts = await asyncio.to_thread(set_up, api, endpoints)
        return cls(api, parts, Score(parts, endpoints.accepted), view)

    async def perform(self, settings: Settings, until: float | None) -> list[str]:
        """Send every example; then wait until all is settled, and tell what is not, or go on without an end."""
        async with watching(settings) as batches:
            with self.view.shown():
                beside = [asyncio.create_task(self._follow(batches)), asyncio.create_task(self._refresh())]
                play = asyncio.create_task(self._play(until))
                try:
                    await asyncio.wait({play, *beside}, return_when=asyncio.FIRST_COMPLETED)
                    for task in (task for task in beside if task.done()):
                        task.result()
                    left = await play
                    self.view.refresh(self.score)
                    return left
                finally:
                    await _ended(play, *beside)

    async def _play(self, until: float | None) -> list[str]:
        await together(*(self._send_all(part) for part in self.parts if not part.gone))
        if until is None:
            await self._stream()
        while (left := self.score.open()) and until and time.monotonic() < until:  # noqa: ASYNC110 - three sources fill it
            await asyncio.sleep(_LOOK_S)
        return left

    async def _send_all(self, part: Part) -> None:
        """The product's examples, a few at a time so that an eye can follow."""
        samples = examples(part.profile.name)
        for start in (0, *range(1, len(samples), _BATCH)):
            await self._send(part, samples[start : start + _BATCH] if start else samples[:1])
            await asyncio.sleep(_PAUSE_S)

    async def _stream(self) -> None:
        """A further event now and then."""
        while True:
            await asyncio.sleep(_STREAM_S)
            part = random.choice([part for part in self.parts if not part.gone])  # noqa: S311 - no secret
            fit = [example for example in examples(part.profile.name) if not self._is_for_gone(part, example)]
            try:
                await self._send(part, (random.choice(fit),))  # noqa: S311
            except Unreachable as error:
                self.view.say(f"an event of {part.tenant} could not be sent: {error}")

    def _is_for_gone(self, part: Part, example: Example) -> bool:
        return any(other.gone and other.tenant == part.tenant and other.wants(example.type) for other in self.parts)

    async def _send(self, part: Part, batch: tuple[Example, ...]) -> None:
        numbered = [(f"{part.profile.name}-{next(self._numbers):04}", example) for example in batch]
        await asyncio.to_thread(send, self.api, part.tenant, numbered)
        for event_id, example in numbered:
            self.score.sent(part.tenant, event_id, example.type)

    async def _follow(self, batches: AsyncIterator[list[Seen]]) -> None:
        async for batch in batches:
            for record in batch:
                self.score.saw(record)

    async def _refresh(self) -> None:
        while True:
            self.view.refresh(self.score)
            await asyncio.sleep(_REFRESH_S)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
