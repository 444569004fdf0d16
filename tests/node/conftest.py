"""A published repository, and a runtime directory of the test's own; its mounts are taken away at the end."""

from tests.daemon.conftest import published, runtime

__all__ = ["published", "runtime"]
