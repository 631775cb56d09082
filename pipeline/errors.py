"""The errors that people see.

::

    PipelineError                 something we can name; one plain sentence, exit code 1
    ├── UsageError                the request or setting is refused; exit code 2
    │   └── SettingsError         an option, variable or file holds a value that we cannot use
    ├── Unreachable               Kafka, the registry or the API does not answer; worth another try
    ├── Fenced                    a newer process has taken this one's place; exit code 78, never restarted
    └── Undecodable               a record that cannot be read: a dead letter, never a stop

Everything else that is raised is a fault of ours and ends the process without a commit.
"""

from __future__ import annotations


class PipelineError(Exception):
    """An error with one plain sentence that says what is wrong and what to do."""

    exit_code = 1


class UsageError(PipelineError):
    """What was asked for is refused."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting holds a value that cannot be used; the message names the setting, never a secret's value."""


class Unreachable(PipelineError):
    """A service that we need does not answer. Nothing is known to be lost or done."""


class Fenced(PipelineError):
    """A newer process holds the place of this one; this one must not go on."""

    exit_code = 78


class Undecodable(PipelineError):
    """A record that cannot be read.

    `reason` is a member of the dead letters' vocabulary (`pipeline.flow.deadletter.Reason`), as text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
