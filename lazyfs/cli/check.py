"""`lazyfs check`: is everything a repository leads to there, and right?"""

import click
import msgspec

from lazyfs.cli.progress import Counter
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.publish import pointer as pointers
from lazyfs.publish.check import Findings, check
from lazyfs.publish.directory_store import DirectoryStore


@click.command()
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Threads.")
def command(store: str, as_json: bool, workers: int) -> int:
    """Read every object that the committed revision of STORE leads to, and compare sizes and digests.

    Exits 0 if all is right, 1 if an object is missing or wrong.

    \b
    Example:
      lazyfs check /srv/unpacked
    """
    opened = DirectoryStore(store)
    pointer = pointers.current(opened)
    with Counter(enabled=not as_json) as counter:

        def advance(findings: Findings) -> None:
            counter.show(
                f"{findings.objects} objects, {findings.bytes >> 20} MiB checked, {findings.bad} bad"
            )

        root = ObjectRef(Digest(pointer.root), pointer.root_size)
        findings = check(opened, root, workers=workers, advance=advance)
    if as_json:
        answer = {"repository": pointer.name, "revision": pointer.revision}
        click.echo(msgspec.json.encode({**answer, **msgspec.to_builtins(findings)}))
    else:
        for problem in findings.problems:
            click.echo(f"lazyfs: {problem}", err=True)
        click.echo(
            f"{pointer.name} revision {pointer.revision}: {findings.objects} objects, "
            f"{findings.bytes} bytes ({findings.stored_bytes} stored), {findings.catalogs} catalogs, "
            f"{findings.entries} entries: {f'{findings.bad} bad' if findings.bad else 'all right'}"
        )
    return 1 if findings.bad else 0
