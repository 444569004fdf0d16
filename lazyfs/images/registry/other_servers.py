"""HTTP clients for servers that are not registries, those of wishlists and webhooks, with the certificates
that registries have."""

import os
from urllib.parse import urlsplit

from lazyfs.images.registry.certificates import Certificates, folders
from lazyfs.images.registry.wire import Wire


def wire_to(url: str) -> Wire:
    """Returns an HTTP client for the server of a URL. It uses TLS unless the URL begins with http:."""
    environment = dict(os.environ)
    parts = urlsplit(url)
    certificates = Certificates((parts.netloc,), folders(environment), environment)
    return Wire(certificates, plain_http=parts.scheme == "http")
