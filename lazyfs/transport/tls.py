"""Trusted CAs and the client certificate for connections over TLS; the same for every HTTP library.

Files that an operator names are read once, at the start, so that a daemon that gives up root still has them.
Libraries want file names, so the content lies in memory under /proc/self/fd.
"""

import os
import re
import ssl
import threading
import weakref

from lazyfs.core.errors import UsageError
from lazyfs.transport.tls_files import TlsFiles

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # EL, Fedora
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",
)
"""The files of CA certificates of common distributions, for a Python whose OpenSSL was built to look
elsewhere."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_CERTIFICATES = {b"CERTIFICATE", b"TRUSTED CERTIFICATE", b"X509 CERTIFICATE"}


class Tls:
    """Trusted CAs and a client certificate. Thread-safe."""

    def __init__(self, files: TlsFiles | None = None) -> None:
        """Reads the files. Without `ca`, the CAs are those that SSL_CERT_FILE and SSL_CERT_DIR name; if one
        of these variables is not set, the system's file or directory is used in its place. Raises UsageError
        that names the file and the remedy."""
        files = files or TlsFiles()
        self.notes: list[str] = []
        """Reasons why the system's CAs may be incomplete."""
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self.ca_directory: str | None = None
        self._ca_file: str | bytes | None
        if files.ca is None:
            self._ca_file, self.ca_directory = self._system()
        else:
            self._ca_file = _read("--ca", files.ca)
            if not _CERTIFICATES & set(_BLOCK.findall(self._ca_file)):
                raise UsageError(f"--ca {files.ca}: holds no certificate in PEM form")
        self._identity = _identity(files)
        self._names: dict[bytes, str] = {}
        if files:
            self._check(files)

    @property
    def identified(self) -> bool:
        """True if there is a client certificate."""
        return self._identity is not None

    @property
    def ca_file(self) -> str | None:
        """Name of a file with the trusted CAs; None if no CA is trusted from a file."""
        return self._ca_file if isinstance(self._ca_file, str | None) else self._named(self._ca_file)

    @property
    def identity_file(self) -> str | None:
        """Name of a file with key and client certificate; None if there is no client certificate."""
        return None if self._identity is None else self._named(self._identity)

    def context(self) -> ssl.SSLContext:
        """Returns the context for Python's own TLS; one for all connections."""
        with self._lock:
            if self._context is None:
                self._context = self._made()
            return self._context

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as libcurl: an intermediate CA is enough
        context.set_alpn_protocols(["http/1.1"])
        if self.ca_file or self.ca_directory:
            context.load_verify_locations(self.ca_file, self.ca_directory)
        if self.identity_file:
            context.load_cert_chain(self.identity_file, password=lambda: b"")
        return context

    def _check(self, files: TlsFiles) -> None:
        try:
            self.context()
        except (ssl.SSLError, ValueError) as error:
            given = [
                f"--{name.replace('_', '-')} {value}" for name, value in files._asdict().items() if value
            ]
            mismatch = "MISMATCH" in str(error)
            why = "the key belongs to another certificate" if mismatch else f"not usable: {error}"
            raise UsageError(f"{', '.join(given)}: {why}") from None

    def _named(self, content: bytes) -> str:
        """Returns a file name under which this process can read `content`."""
        name = self._names.get(content)
        if name is None:
            descriptor = os.memfd_create("lazyfs-tls")
            weakref.finalize(self, os.close, descriptor)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            name = self._names[content] = f"/proc/self/fd/{descriptor}"
        return name

    def _system(self) -> tuple[str | bytes | None, str | None]:
        """Returns the file of CAs (or its content), and the directory of CAs, that are to be trusted by
        default; None for one that is not used."""
        usual = ssl.get_default_verify_paths()
        file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        read = b""
        if file:
            read = self._tried("SSL_CERT_FILE", file)
        if directory:
            places = [place for place in directory.split(os.pathsep) if place]
            read += b"".join(self._tried("SSL_CERT_DIR", name) for place in places for name in _files(place))
        known = (usual.openssl_cafile, *BUNDLES)
        default_file = None if file else next(filter(os.path.isfile, known), None)
        default_directory = (
            None if directory or not os.path.isdir(usual.openssl_capath) else usual.openssl_capath
        )
        if read and default_file:
            read = self._tried("", default_file) + read
        if not read and default_file is None and default_directory:
            read = b"".join(self._tried("", name) for name in _files(default_directory))
        if not read and default_file is None:
            self.notes.append("no CAs are installed here (package ca-certificates)")
        return read or default_file, default_directory

    def _tried(self, name: str, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return b"\n" + file.read()
        except OSError as error:
            self.notes.append(f"{name} {path}: {error.strerror}".strip())
            return b""


def _files(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.path for entry in entries if entry.is_file())
    except OSError:
        return []


def _read(option: str, path: str) -> bytes:
    if "-----BEGIN" in path:
        raise UsageError(f"{option}: give the name of a file, not its content")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from None


def _identity(files: TlsFiles) -> bytes | None:
    """Returns the client's key and certificates, the key first; None if no client certificate is named."""
    if files.client_cert is None:
        if files.client_key is not None:
            raise UsageError(f"--client-key {files.client_key}: needs the certificate, --client-cert FILE")
        return None
    certificate = _read("--client-cert", files.client_cert)
    if not _CERTIFICATES & set(_BLOCK.findall(certificate)):
        raise UsageError(f"--client-cert {files.client_cert}: holds no certificate in PEM form")
    key, where = certificate, f"--client-cert {files.client_cert}"
    if files.client_key is not None:
        key, where = _read("--client-key", files.client_key), f"--client-key {files.client_key}"
    kinds = [kind for kind in _BLOCK.findall(key) if kind.endswith(b"PRIVATE KEY")]
    if not kinds:
        also = "" if files.client_key else "; name the file that does with --client-key"
        raise UsageError(f"{where}: holds no private key in PEM form{also}")
    if kinds[0] == b"ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in key:
        raise UsageError(
            f"{where}: the key has a passphrase, and a daemon cannot ask for it; remove it with "
            f"`openssl pkey -in FILE -out NEW` and keep NEW readable by its owner only"
        )
    return key + b"\n" + certificate
