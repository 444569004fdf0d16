"""The collector (`lazyfs collect`) that gets the mount's reports of starts, and the credential for it, which
no other server gets."""

import ssl
from typing import Final
from urllib.parse import urlsplit

from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings import ProfileReporting
from lazyfs.system.trusted_files import Untrusted, open_file

LARGEST_TOKEN: Final = 4096
_LOCAL = ("127.0.0.1", "::1", "localhost")


class ReportTarget:
    """The address of one collector, with the token or the client certificate for it."""

    def __init__(self, given: ProfileReporting) -> None:
        """Reads the files of the token and of the certificates now, because the daemon may give up root
        later. `given`: the section [profile] of the settings. Raises UsageError for a URL or a file that
        cannot be used."""
        try:
            url = urlsplit(given.report)
            self.port = url.port
        except ValueError as error:
            raise UsageError(f"profile.report: {error}") from None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UsageError("profile.report is no URL such as https://collector.example/reports")
        if url.username is not None or url.query or url.fragment:
            raise UsageError(
                "profile.report holds an account or a query: a token goes into profile.token_file"
            )
        if url.scheme == "http" and url.hostname not in _LOCAL:
            raise UsageError("profile.report has to be an https URL: over http anybody reads the token")
        self.host = url.hostname
        self.path = url.path or "/"
        self.token = _token(given.token_file) if given.token_file is not None else ""
        self.tls = _context(given) if url.scheme == "https" else None
        if not self.token and given.client_cert is None:
            raise UsageError("profile.report needs profile.token_file or profile.client_cert")
        if not self.token and self.tls is None:
            raise UsageError("profile.client_cert is for https: give profile.token_file")


def _token(path: str) -> str:
    try:
        with open(open_file(path, 0), "rb") as file:
            text = file.read(LARGEST_TOKEN + 1).decode("ascii").strip()
    except Untrusted as error:
        raise UsageError(f"profile.token_file {error}") from None
    except OSError as error:
        raise UsageError(f"profile.token_file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > LARGEST_TOKEN or not text.isprintable() or " " in text:
        raise UsageError(f"profile.token_file {path}: must hold one line, the token")
    return text


def _context(given: ProfileReporting) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if given.ca is not None:
            context = ssl.create_default_context(cafile=given.ca)
    except (OSError, ValueError) as error:
        raise UsageError(f"profile.ca {given.ca}: {error}") from None
    try:
        if given.client_cert is not None:
            context.load_cert_chain(given.client_cert, given.client_key)
    except (OSError, ValueError) as error:
        raise UsageError(f"profile.client_cert {given.client_cert}: {error}") from None
    return context
