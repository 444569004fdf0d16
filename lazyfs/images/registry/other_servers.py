"""The way to servers that are no registries, but are asked with the same certificates: those of wishlists and
of webhooks."""

import os
from urllib.parse import urlsplit

from lazyfs.images.registry.certificates import Certificates, folders
from lazyfs.images.registry.wire import Wire


def wire_to(url: str) -> Wire:
    """Returns the HTTP client for the server of a URL. Without TLS only if the URL says so."""
    environment = dict(os.environ)
    parts = urlsplit(url)
    certificates = Certificates((parts.netloc,), folders(environment), environment)
    return Wire(certificates, plain_http=parts.scheme == "http")
