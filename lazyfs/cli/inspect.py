"""`lazyfs inspect`: shows an image before or after it is published."""

import shlex
from typing import Any

import click

from lazyfs.cli.registry_options import image_options, registry_options
from lazyfs.cli.say import say, say_json
from lazyfs.cli.store_options import json_option
from lazyfs.core.errors import UsageError
from lazyfs.core.shown_address import shown_source
from lazyfs.images.inspect import ImageFacts, of_published, of_source
from lazyfs.images.sources.open import open_image, open_registry
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader

_SOURCES = ("docker", "oci", "oci-archive", "docker-archive", "sif")


@click.command()
@click.argument("image")
@click.argument("store", required=False)
@click.option("--tags", is_flag=True, help="List the tags of docker://REPOSITORY instead.")
@registry_options
@json_option
def command(image: str, store: str | None, tags: bool, as_json: bool, **registry: Any) -> None:
    """Show config, layers, sizes and platforms of IMAGE: a source, or a published name in STORE.

    \b
    Examples:
      lazyfs inspect docker://registry.example/app:1
      lazyfs inspect docker://registry.example/app --tags
      lazyfs inspect registry.example/app:1 /srv/unpacked
    """
    options = image_options(registry, allow_public=True)
    if tags:
        with open_registry(image, options) as (client, _):
            listed = client.tags()
        if as_json:
            say_json(listed)
        else:
            say(*listed)
        return
    if store:
        opened = open_store(store)
        revision = read_revision(opened)
        tree = StoredTree(reader(opened), revision.root)
        facts = of_published(tree, image)
    elif ":" in image and image.partition(":")[0] in _SOURCES:
        with open_image(image, options) as source:
            facts = of_source(source)
    else:
        kinds = ", ".join(f"{kind}:" for kind in _SOURCES)
        raise UsageError(f"{shown_source(image)}: give a source ({kinds}), or the store it is in")
    if as_json:
        say_json(facts)
    else:
        say(*_lines(facts))


def _lines(facts: ImageFacts) -> list[str]:
    lines = [
        ("image", facts.name),
        ("id", facts.id),
        ("platform", facts.platform),
        ("platforms", ", ".join(facts.platforms)),
        ("created", facts.created or ""),
        ("entrypoint", shlex.join(facts.entrypoint)),
        ("cmd", shlex.join(facts.cmd)),
        ("workdir", facts.working_dir),
        ("user", facts.user),
        *(("env", item) for item in facts.env),
        *(("label", f"{name}={value}") for name, value in sorted(facts.labels.items())),
        *(
            (
                "layer",
                f"{item.diff_id}  {item.size} bytes" + (f", {item.entries} entries" if item.entries else ""),
            )
            for item in facts.layers
        ),
    ]
    if facts.entries is not None:
        lines.append(("tree", f"{facts.entries} entries, {facts.bytes} bytes"))
    return [f"{label:<11} {value}" for label, value in lines if value]
