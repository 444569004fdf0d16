"""Settings of gunicorn; it tells through a pipe when it listens."""

from pathlib import Path

bind = "unix:/tmp/application.sock"
loglevel = "error"
worker_tmp_dir = "/tmp"


def when_ready(server: object) -> None:
    """Ends the wait of the script that has started this server."""
    del server
    Path("/tmp/ready").write_text("ready\n")
