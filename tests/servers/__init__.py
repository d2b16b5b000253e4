"""Real servers, small enough to be started by a test and to be broken by it on purpose."""

from tests.servers.running import RunningQdrant, running_qdrant

__all__ = ["RunningQdrant", "running_qdrant"]
