"""Trusted CAs and client certificates for each server from which a pull reads.

Two kinds of CAs are trusted: those of the system, or of the files that environment variables name in their
place; and every `*.crt` in the registry's folder of certs.d, which is read as docker and podman read it. A
client certificate of that folder (`NAME.cert` with `NAME.key`) is shown to that registry only.
"""

import os
import ssl
from collections.abc import Mapping, Sequence

from lazyfs.core.errors import UsageError

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, EL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",  # Alpine
)
"""The files in which distributions keep trusted CAs. The first that exists is used if OpenSSL's default file
is missing, as for a Python that was built for another distribution."""
_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Environment variables that name a file of CA certificates, to be used in place of the system's. If several
are set, all their files are trusted: some sites set all variables to the system's file, and a user then sets
one of them to a file of the site."""
SYSTEM_FOLDERS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the certs.d folders in the order in which podman looks: the user's own first."""
    home = environment.get("HOME")
    own = (os.path.join(home, ".config/containers/certs.d"),) if home else ()
    return own + SYSTEM_FOLDERS


class Certificates:
    """Makes one TLS context for each server."""

    def __init__(
        self, registry: Sequence[str], places: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """`registry`: the names under which certs.d may have the registry (`host`, `host:port`); its CAs are
        trusted at its token server and storage too. `places`: the certs.d folders; the first that has one of
        the names counts."""
        self._places = places
        self._environment = environment
        self._registry = _first(places, registry)

    def context(self, host: str, port: int) -> ssl.SSLContext:
        """Returns the TLS context for connections to this server. Raises UsageError for files that cannot be
        used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go: an intermediate CA is enough
        self._trust_usual(context)
        own = self._own(host, port)
        for folder in dict.fromkeys(filter(None, (self._registry, own))):
            for path in _files(folder, ".crt"):
                _load(context, path, "")
        if own:
            _identify(context, own)
        return context

    def for_proxy(self) -> ssl.SSLContext:
        """Returns the TLS context for an https proxy: the usual CAs, and no client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trust_usual(context)
        return context

    def _own(self, host: str, port: int) -> str | None:
        names = [f"{host}:{port}", host] if port == 443 else [f"{host}:{port}"]
        return _first(self._places, names)

    def _trust_usual(self, context: ssl.SSLContext) -> None:
        named = [name for name in _FILES if self._environment.get(name)]
        for name in named:
            _load(context, self._environment[name], name)
        if not named:
            usual = (ssl.get_default_verify_paths().openssl_cafile, *BUNDLES)
            if bundle := next(filter(os.path.isfile, usual), None):
                _load(context, bundle, "")
        if directories := self._environment.get("SSL_CERT_DIR"):
            for directory in filter(None, directories.split(os.pathsep)):
                _load(context, directory, "SSL_CERT_DIR")
        else:
            directory = ssl.get_default_verify_paths().openssl_capath
            if os.path.isdir(directory):
                context.load_verify_locations(capath=directory)


def _first(places: Sequence[str], names: Sequence[str]) -> str | None:
    """Returns the first existing folder PLACE/NAME, or None; unreadable ones are passed over, as podman
    does."""
    for place in places:
        for name in names:
            path = os.path.join(place, name)
            if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
                return path
    return None


def _files(folder: str, suffix: str) -> list[str]:
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(suffix))


def _load(context: ssl.SSLContext, path: str, named_by: str) -> None:
    """Trusts the CAs of a file, or of every file of a directory, whatever the names of the files. `named_by`:
    the environment variable that names `path`, for errors; empty if none does. Raises UsageError."""
    shown = f"{named_by} {path}".strip()
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
            for name in sorted(os.listdir(path)):
                file = os.path.join(path, name)
                if os.path.isfile(file):
                    try:
                        context.load_verify_locations(cafile=file)
                    except ssl.SSLError:
                        continue  # a README among the certificates is passed over, as in Go
        else:
            context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise UsageError(f"{shown}: holds no certificate in PEM form") from None
    except OSError as error:
        raise UsageError(f"{shown}: {error.strerror}") from None


def _identify(context: ssl.SSLContext, folder: str) -> None:
    for certificate in _files(folder, ".cert"):
        key = certificate.removesuffix(".cert") + ".key"
        if not os.path.isfile(key):
            raise UsageError(f"{certificate}: its key {key} is missing")
        try:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except ssl.SSLError as error:
            raise UsageError(
                f"{certificate} and {key}: not a certificate and its key: {error.reason}"
            ) from None
        except OSError as error:
            raise UsageError(f"{certificate} and {key}: {error.strerror}") from None
    for key in _files(folder, ".key"):
        if not os.path.isfile(key.removesuffix(".key") + ".cert"):
            raise UsageError(f"{key}: its certificate {key.removesuffix('.key')}.cert is missing")
