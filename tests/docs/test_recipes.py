"""The container recipe of tools/service: it copies what tools/install reads of a checkout."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_container_recipe_copies_what_the_installation_reads() -> None:
    recipe = (ROOT / "tools/service/Containerfile").read_text().splitlines()
    copied = {
        source
        for line in recipe
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    commands = [
        line.strip()
        for line in (ROOT / "tools/install").read_text().splitlines()
        if not line.lstrip().startswith(("#", "say "))
    ]
    read = {path for line in commands for path in re.findall(r"(?<![\w/])tools/[\w./-]+", line)}
    assert read
    assert read <= copied
    assert all((ROOT / path).exists() for path in copied)
