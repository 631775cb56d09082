"""The command `pipeline`: a module per noun, each imported only when it is asked for."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipeline.errors import PipelineError

INTERRUPTED = 130


class Noun(NamedTuple):
    """A word after `pipeline`: the module that holds its Typer `app`, and its line in `--help`."""

    name: str
    module: str
    help: str


NOUNS = (
    Noun("up", "pipeline.cli.up", "Everything on this machine: broker, registry, all roles."),
    Noun("demo", "pipeline.cli.demo", "`up`, with tenants, receivers and events of every product."),
    Noun("status", "pipeline.cli.status", "Per stage: members, lag, rate."),
    Noun("receiver", "pipeline.cli.receiver", "An endpoint that verifies and prints what it gets."),
    Noun("run", "pipeline.cli.run", "One process of a role: router, sender, delay, recorder, replayer, api."),
    Noun("recorder", "pipeline.cli.recorder", "The delivery log: make it again from the topics."),
    Noun("topics", "pipeline.cli.topics", "Kafka's topics: make them, check them."),
    Noun("schemas", "pipeline.cli.schemas", "The registry's schemas: register them, check them."),
    Noun("tenants", "pipeline.cli.tenants", "The products' customers: create, change, remove."),
    Noun("webhooks", "pipeline.cli.webhooks", "Who gets which events, where: create, change, activate, remove."),
    Noun("events", "pipeline.cli.events", "Send events; follow them as they come; look them up; why who got them."),
    Noun("filters", "pipeline.cli.filters", "What a filter and a projection make of an event."),
    Noun("deliveries", "pipeline.cli.deliveries", "What was sent to whom: list, show, redeliver, cancel."),
    Noun("replays", "pipeline.cli.replays", "A window of the log again: plan, start, watch, pause, cancel."),
    Noun("dead-letters", "pipeline.cli.dead_letters", "What could not arrive: list, show, redrive, discard."),
    Noun("profiles", "pipeline.cli.profiles", "The products: their events, forms and rules."),
    Noun("keys", "pipeline.cli.keys", "Who may use the API: make keys, list them, revoke them."),
    Noun("secrets", "pipeline.cli.secrets", "The encryption keys: make one, see what each has sealed, rotate."),
    Noun("config", "pipeline.cli.config", "The settings in force, secrets masked."),
)


class _Lazy(TyperGroup):
    """Lists its nouns without importing them: `--help` is quick, and a role's process loads its own parts alone."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return [noun.name for noun in NOUNS]

    def get_command(self, _ctx: Any, cmd_name: str) -> TyperCommand | None:
        """What `--help` and completion show of a noun."""
        noun = _noun(cmd_name)
        return noun and TyperCommand(noun.name, help=noun.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The noun's own commands."""
        noun = _noun(args[0])
        if noun is None:
            return super().resolve_command(ctx, args)
        return noun.name, get_command(import_module(noun.module).app), args[1:]


app = typer.Typer(cls=_Lazy, name="pipeline", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _pipeline() -> None:
    """Webhooks as a Kafka pipeline: events in, signed deliveries out."""


def main() -> NoReturn:
    """Run the command line. What goes wrong is one line on stderr and an exit code (`pipeline.errors`)."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """The exit code of this command line."""
    try:
        return int(app(arguments, prog_name="pipeline", standalone_mode=False) or 0)
    except NoArgsIsHelpError as error:
        return _said(error.format_message(), error.exit_code)
    except ClickException as error:
        return _said(f"pipeline: {_one_line(error.format_message())}", error.exit_code)
    except PipelineError as error:
        return _said(f"pipeline: {_one_line(str(error))}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _noun(name: str) -> Noun | None:
    return next((noun for noun in NOUNS if noun.name == name), None)


def _said(line: str, code: int) -> int:
    print(line, file=sys.stderr)  # noqa: T201 - the command's own voice
    return code


def _one_line(text: str) -> str:
    return " ".join(text.split())
