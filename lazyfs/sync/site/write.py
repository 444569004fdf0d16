"""Writes the status site into a directory or a bucket: pages after the files that they refer to."""

import re

from lazyfs.core.errors import UsageError
from lazyfs.store.web_files import WebFiles

_FEEDS = ("owners/", "feeds/")
_OURS = re.compile(r".*\.atom|tmp\w{8}")
"""Names of files that the service writes into the folders of feeds: feeds, and temporary files of runs that
were killed. Other files are not deleted."""
_LAST = ("index.html", "status.json")


def write_site(folder: WebFiles, files: dict[str, bytes]) -> None:
    """Writes those of the `files` (path -> content) that have changed, and deletes the feeds of owners and
    images that no longer exist. Raises UsageError; StoreError if a bucket fails."""
    feeds = {path: data for path, data in files.items() if path.startswith(_FEEDS)}
    others = {path: data for path, data in files.items() if path not in feeds and path not in _LAST}
    try:
        # Feeds are not flushed to the disk, because there may be 10,000 of them.
        folder.update(feeds, durable=False)
        folder.update(others)
        folder.update({path: files[path] for path in _LAST})
        there = [path for feed_folder in _FEEDS for path in folder.below(feed_folder)]
        folder.delete([path for path in there if path not in files and _is_ours(path)])
    except OSError as error:
        raise UsageError(f"status site {folder.location}: {error.strerror} ({error.filename})") from None


def _is_ours(path: str) -> bool:
    return _OURS.fullmatch(path.rpartition("/")[2]) is not None
