"""Structures that several threads may be the first to convert to are analysed when their module is imported:
msgspec ends the process with SIGSEGV if two threads analyse one at the same time."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, importlib, sys
kind = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
print([type(one).__name__ for one in gc.get_referents(kind)].count("StructInfo"))
"""
"""Prints 1 if msgspec holds the result of its analysis of a structure, else 0."""


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("lazyfs.core.oci.manifest", "_Document"),
        ("lazyfs.core.oci.manifest", "Descriptor"),
        ("lazyfs.core.oci.manifest", "Config"),
        ("lazyfs.core.oci.manifest", "RootFs"),
        ("lazyfs.core.oci.manifest", "ArchivedImage"),
        ("lazyfs.core.trust.revision_fields", "_Custom"),
        ("lazyfs.core.trust.revision_fields", "Params"),
        ("lazyfs.core.trust.saved", "Saved"),
        ("lazyfs.core.webhooks.pushes", "_DockerBody"),
        ("lazyfs.core.webhooks.pushes", "_HarborBody"),
        ("lazyfs.core.webhooks.pushes", "_GitLabBody"),
        ("lazyfs.core.webhooks.pushes", "_GitHubBody"),
    ],
)
def test_it_is_analysed_with_the_import(module: str, kind: str) -> None:
    command = [sys.executable, "-c", PROGRAM, module, kind]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"
