from __future__ import annotations

from pipeline.errors import PipelineError


class EmbeddedError(PipelineError):
    """The embedded broker, the registry or a role cannot be fetched, started or kept; one sentence says why."""
