"""Exports made in this process."""

from typing import Any

from lazyfs.images.exports.export import ExportOptions, ExportReport, export, parse_target
from lazyfs.images.exports.published_image import PublishedImage
from lazyfs.repository.commit import read_revision
from lazyfs.store import reader
from tests.support.repositories import Repository

PLACE = "r.example/app:1"
"""The place of the image that tests export."""


def export_image(repository: Repository, target: str, *, place: str = PLACE, **options: Any) -> ExportReport:
    """Exports an image of the newest revision. `options`: fields of ExportOptions."""
    store = repository.store
    image = PublishedImage(reader(store), read_revision(store).root, place)
    return export(image, parse_target(target), ExportOptions(**options))
