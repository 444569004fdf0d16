"""A GitLab project of wishlists, whose pipeline's jobs run on this machine by gitlab-ci-local."""

import shutil
import subprocess
from pathlib import Path

from tests.support.processes import run
from tests.support.service_templates import TEMPLATES, Machine

GITLAB = Path(__file__).parents[2] / "tools/npm/node_modules/.bin/gitlab-ci-local"


class Project:
    """A GitLab project with wishlists. Its pipeline's jobs run on this machine."""

    def __init__(self, machine: Machine, template: str = "gitlab-ci.yml") -> None:
        self.machine = machine
        self.path = machine.directory / "project"
        shutil.copytree(machine.wishlists, self.path / "wishlists")
        shutil.copy(TEMPLATES / template, self.path / ".gitlab-ci.yml")
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", "git@gitlab.example.org:site/wishlists.git")
        self.commit()

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return run("git", "-C", str(self.path), *identity, *arguments, check=True).stdout.decode().strip()

    def commit(self) -> str:
        """Commits everything; returns the commit before the new one."""
        self.git("add", "-A")
        self.git("commit", "-qm", "lists")
        return self.git("rev-list", "-n", "2", "HEAD").split()[-1]

    def job(self, *names: str, **variables: str) -> "subprocess.CompletedProcess[bytes]":
        """Runs one job of the pipeline; without a name, all jobs of a push to the default branch."""
        assert GITLAB.exists(), "npm ci --prefix tools/npm, as tools/test --long does"
        machine = self.machine
        given = {
            "LAZYFS_STORE": str(machine.store),
            "LAZYFS_CONFIG": str(machine.config),
            "LAZYFS_STATUS": str(machine.status),
            **variables,
        }
        words = [f"--variable={key}={value}" for key, value in given.items()]
        command = [str(GITLAB), "--force-shell-executor", "--no-color", *words, *names]
        return run(*command, cwd=self.path, env=machine.environment)
