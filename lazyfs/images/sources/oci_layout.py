"""OCI image layouts: `oci-layout`, `index.json` and blobs (image-spec, image-layout.md), in a directory or in
a tar archive."""

import os
from collections.abc import Generator, Iterator, Sequence

from lazyfs.core.digest import parse_hex, sha256
from lazyfs.core.errors import DigestMismatch, FormatError, UsageError
from lazyfs.core.oci.manifest import (
    CONTAINERD_NAME,
    MAX_CONFIG,
    MAX_MANIFEST,
    REF_NAME,
    Descriptor,
    Index,
    Platform,
    parse,
    parse_config,
)
from lazyfs.core.oci.platform import MAX_NESTING, choose, is_image, normalized, runs
from lazyfs.core.oci.remarks import check_platform, remarks
from lazyfs.core.printable import printable
from lazyfs.images.inputs import is_input
from lazyfs.images.sources.default_name import default_place
from lazyfs.images.sources.image import layers_of
from lazyfs.images.sources.layout_files import ArchiveFiles, DirectoryFiles, LayoutFiles
from lazyfs.images.sources.names import Which, is_layout, same_reference, split
from lazyfs.images.streams import ExactReader


def layout_directory(text: str, platform: Platform, *, asked: bool = True) -> "OciLayout":
    """Opens an image of a directory. `text` is DIR[:NAME], DIR:@N or DIR@DIGEST. Raises UsageError for a
    missing directory or image, BadData for a broken one."""
    directory, which = split(text, is_layout)
    name = f"oci:{text}"
    if not is_layout(directory):
        raise UsageError(f"{name}: {directory} is not an OCI image layout (no index.json)")
    return OciLayout(DirectoryFiles(directory), directory, name, which, platform, asked=asked)


def layout_archive(text: str, platform: Platform, *, asked: bool = True) -> "OciLayout":
    """Opens an image of an archive. `text` is FILE[:NAME], FILE:@N or FILE@DIGEST; FILE may be `-`, the
    standard input. Raises UsageError for a missing file or image, BadData for a file that is no archive of a
    layout, or for a broken image."""
    path, which = split(text, is_input)
    name = f"oci-archive:{text}"
    files = ArchiveFiles(path, name)
    try:
        return OciLayout(files, path, name, which, platform, asked=asked)
    except BaseException:
        files.close()
        raise


class OciLayout:
    """One image of a layout. Implements `Image`."""

    def __init__(
        self, files: LayoutFiles, path: str, name: str, which: Which, platform: Platform, *, asked: bool
    ) -> None:
        """`path`: the path of the layout. `name`: the name of the image in messages. `asked`: True if the
        operator named the platform. Raises UsageError for a missing image, BadData for a broken one."""
        self._files = files
        self.name = name
        entries = self._named(which)
        self.place = default_place(_best_name(entries[0]), path)
        entry = entries[0] if len(entries) == 1 else self._chosen(entries, platform)
        self.manifest = self._blob(entry, "manifest", MAX_MANIFEST)
        document = parse(self.manifest, self.name)
        for _ in range(MAX_NESTING):
            if not isinstance(document, Index):
                break
            entry = choose(document, platform, self.name)
            self.manifest = self._blob(entry, "manifest", MAX_MANIFEST)
            document = parse(self.manifest, self.name)
        else:
            raise FormatError(f"{self.name}: over {MAX_NESTING} indexes in one another")
        self.config_bytes = self._blob(document.config, "config", MAX_CONFIG)
        self.config_digest = document.config.hash
        self.config = parse_config(self.config_bytes, self.name, len(document.layers))
        listed = entry.platform is not None and runs(entry.platform, platform)
        self.notes = (
            *check_platform(self.config, platform, asked=asked, listed=listed, name=self.name),
            *remarks(self.config),
        )
        self._descriptors = document.layers
        self.layers = layers_of(self.name, document, self.config)

    def close(self) -> None:
        """Closes the layout's files."""
        self._files.close()

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterator[bytes]], None, None]:
        for number in wanted:
            path = _path(self._descriptors[number])
            with self._files.open(path, self.layers[number].blob.name) as parts:
                yield number, parts

    def _named(self, which: Which) -> list[Descriptor]:
        """Returns the entries of the index with this name: one, or one for each platform. Raises UsageError
        if there is none, or if several images have the name."""
        everything = self._index()
        if which.digest is not None:
            return [self._by_digest(which.digest, everything)]
        if which.number is not None:
            if which.number < len(everything.manifests):
                return [everything.manifests[which.number]]
            raise UsageError(
                f"{self.name}: the layout has {len(everything.manifests)} images, counted from 0"
            )
        images = [entry for entry in everything.manifests if is_image(entry)] or list(everything.manifests)
        matching = images if which.name is None else _called(which.name, images)
        if matching and len(set(map(_names, matching))) == 1:
            return list({entry.digest: entry for entry in matching}.values())
        if which.name is None:
            wish = "a name is needed (oci:DIR:NAME)"
        else:
            wish = f"{'several images' if matching else 'no image'} with name {which.name}"
        names = sorted({found for entry in images for found in _names(entry)})
        there = printable(", ".join(names)) or "none with a name"
        count = len(everything.manifests)
        numbers = f" (or :@N, N from 0 to {count - 1})" if count else ""
        raise UsageError(f"{self.name}: {wish}; the layout has: {there}{numbers}")

    def _index(self) -> Index:
        with self._files.open("index.json", self.name) as parts:
            index = parse(ExactReader(parts).read(MAX_MANIFEST + 1), f"{self.name}: index.json")
        if not isinstance(index, Index):
            raise FormatError(f"{self.name}: index.json is not an index")
        return index

    def _by_digest(self, digest: str, index: Index) -> Descriptor:
        """Returns the descriptor of a manifest in the layout, whether or not index.json lists it. Raises
        UsageError if there is none."""
        for entry in index.manifests:
            if entry.digest == digest:
                return entry
        try:
            parse_hex(digest)
            size = self._files.size(_path(Descriptor(digest, 0)))
        except FormatError as error:
            raise UsageError(f"{self.name}: {error}") from None
        except OSError as error:
            raise UsageError(f"{self.name}: no manifest {digest}: {error.strerror}") from None
        return Descriptor(digest, size)

    def _chosen(self, entries: list[Descriptor], platform: Platform) -> Descriptor:
        """Returns the entry for the platform. Raises UsageError if two are for the same platform."""
        described = [self._with_platform(entry) for entry in entries]
        if len({entry.platform and normalized(entry.platform) for entry in described}) < len(described):
            raise UsageError(
                f"{self.name}: {len(described)} images of the same name and platform: choose by number "
                "(oci:DIR:@N) or digest (oci:DIR@sha256:...)"
            )
        return choose(Index(tuple(described)), platform, self.name)

    def _with_platform(self, entry: Descriptor) -> Descriptor:
        """Returns the entry; if it states no platform, with the platform that its image's config states."""
        if entry.platform is not None:
            return entry
        document = parse(self._blob(entry, "manifest", MAX_MANIFEST), self.name)
        if isinstance(document, Index):
            return entry
        config = parse_config(
            self._blob(document.config, "config", MAX_CONFIG), self.name, len(document.layers)
        )
        return Descriptor(entry.digest, entry.size, entry.media_type, platform=config.platform)

    def _blob(self, descriptor: Descriptor, what: str, limit: int) -> bytes:
        path = _path(descriptor)
        if descriptor.size > limit:
            raise FormatError(f"{self.name}: {what} of {descriptor.size} bytes, over {limit}")
        with self._files.open(path, f"{self.name}: {what}") as parts:
            data = ExactReader(parts).read(descriptor.size + 1)
        if len(data) != descriptor.size or sha256(data) != descriptor.hash:
            raise DigestMismatch(f"{self.name}: {what} {path} does not match its digest")
        return data


def _path(descriptor: Descriptor) -> str:
    algorithm, _, digits = descriptor.digest.partition(":")
    return os.path.join("blobs", algorithm, digits)


def _names(entry: Descriptor) -> tuple[str, ...]:
    """Returns the names of an entry: the full name that docker and containerd give, and the tag or name of
    the specification."""
    annotations = entry.annotations or {}
    return tuple(filter(None, (annotations.get(CONTAINERD_NAME), annotations.get(REF_NAME))))


def _best_name(entry: Descriptor) -> str | None:
    return next(iter(_names(entry)), None)


def _called(name: str, entries: list[Descriptor]) -> list[Descriptor]:
    """Returns the entries with this name; else those whose name means the same image; else those with this
    tag."""
    matching = [entry for entry in entries if name in _names(entry)]
    if not matching:
        matching = [entry for entry in entries if any(same_reference(found, name) for found in _names(entry))]
    return matching or [
        entry for entry in entries if any(found.endswith(f":{name}") for found in _names(entry))
    ]
