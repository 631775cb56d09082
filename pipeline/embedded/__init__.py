"""What `up` needs beside the roles: a broker, a registry, and somebody who keeps the processes running."""

from __future__ import annotations

from pipeline.embedded._errors import EmbeddedError
from pipeline.embedded.cluster import EmbeddedCluster
from pipeline.embedded.supervisor import Role, Supervisor

__all__ = ["EmbeddedCluster", "EmbeddedError", "Role", "Supervisor"]
