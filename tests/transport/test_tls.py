"""The CAs that are trusted by default, and the errors for certificate files that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.core.chain.faults import Fault
from lazyfs.core.errors import UsageError
from lazyfs.transport.tls import Tls
from lazyfs.transport.tls_faults import Peer
from lazyfs.transport.tls_files import TlsFiles
from tests.support.nginx import TlsOrigin
from tests.support.tls import Authority, with_passphrase

_ASK = """
import sys, time
from lazyfs.transport.open import open_fetcher
from lazyfs.transport.fetcher import Request
fetcher = open_fetcher(sys.argv[1], http=sys.argv[2])
print(fetcher.fetch(Request("metadata/timestamp.json", 100, time.monotonic() + 20)).decode())
fetcher.close()
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.mark.root
@pytest.mark.parametrize("http", ["requests", "pycurl"])
@pytest.mark.parametrize("place", ["bundle", "directory"])
def test_a_ca_in_the_systems_store_is_believed(
    authority: Authority, http: str, place: str, tmp_path: Path
) -> None:
    """Only the system's CAs are trusted, not those of certifi or those built into libcurl. Each client runs
    in a mount namespace in which the system's CAs are replaced."""
    certs = tmp_path / "certs"
    certs.mkdir()
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", authority.ca],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    name = "ca-certificates.crt" if place == "bundle" else f"{digest}.0"
    (certs / name).write_bytes(authority.ca.read_bytes())
    store = tmp_path / "store"
    (store / "metadata").mkdir(parents=True)
    (store / "metadata/timestamp.json").write_text("{}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}
    environment |= {"REQUESTS_CA_BUNDLE": "/dev/null", "CURL_CA_BUNDLE": "/dev/null"}
    script = 'mount --bind "$1" /etc/ssl/certs; shift; exec "$@"'
    with TlsOrigin(store, authority.server()) as origin:
        ask = [sys.executable, "-c", _ASK, origin.url, http]
        done = subprocess.run(
            ["unshare", "-m", "sh", "-ec", script, "sh", certs, *ask],
            env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.stdout == "{}\n", done.stderr
        without = subprocess.run(
            ["unshare", "-m", "sh", "-ec", script, "sh", store, *ask],
            env=environment, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert "certificate not trusted: localhost port" in without.stderr
    assert "no CAs are installed here (package ca-certificates)" in without.stderr


def test_files_that_do_not_do_are_named(authority: Authority, tmp_path: Path) -> None:
    client, another = authority.client(), authority.client("another")
    cert, key, ca = str(client.cert), str(client.key), str(authority.ca)
    locked, nothing, broken = (str(tmp_path / name) for name in ("locked", "nothing", "broken"))
    Path(locked).write_bytes(with_passphrase(client.key, b"secret"))
    Path(nothing).touch()
    Path(broken).write_text("-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n")
    for files, words in (
        (TlsFiles(f"{nothing}2"), f"--ca {nothing}2: No such file or directory"),
        (TlsFiles(str(tmp_path)), f"--ca {tmp_path}: Is a directory"),
        (TlsFiles(nothing), f"--ca {nothing}: holds no certificate in PEM form"),
        (TlsFiles(key), f"--ca {key}: holds no certificate in PEM form"),
        (TlsFiles(broken), f"--ca {broken}: not usable"),
        (TlsFiles(ca, nothing), f"--client-cert {nothing}: holds no certificate in PEM form"),
        (TlsFiles(ca, cert), f"--client-cert {cert}: holds no private key in PEM form; name the file"),
        (TlsFiles(ca, cert, f"{nothing}2"), f"--client-key {nothing}2: No such file"),
        (TlsFiles(ca, cert, cert), f"--client-key {cert}: holds no private key in PEM form"),
        (TlsFiles(ca, cert, locked), f"--client-key {locked}: the key has a passphrase"),
        (TlsFiles(ca, cert, str(another.key)), "the key belongs to another certificate"),
        (TlsFiles(client_key=key), f"--client-key {key}: needs the certificate, --client-cert FILE"),
    ):
        with pytest.raises(UsageError) as failure:
            Tls(files)
        assert words in str(failure.value)


def test_a_key_given_as_content_is_not_repeated(authority: Authority) -> None:
    client = authority.client()
    with pytest.raises(UsageError) as failure:
        Tls(TlsFiles(client_cert=str(client.cert), client_key=client.key.read_text()))
    assert str(failure.value) == "--client-key: give the name of a file, not its content"


def test_the_environments_file_that_is_missing_is_said_where_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    failure = Peer("h", 443, Tls()).unverified(20, "unable to get local issuer certificate")
    assert f"SSL_CERT_FILE {tmp_path}/gone.pem: No such file or directory" in str(failure)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:1)", "IDENTITY"),
        ("error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0", "IDENTITY"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", "IDENTITY"),
        ("TLS connect error: error:0A000412:SSL routines::ssl/tls alert bad certificate", "IDENTITY"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "SCHEME"),
        ("TLS connect error: error:0A0000C6:SSL routines::packet length too long", "SCHEME"),
        ("[SSL: RECORD_LAYER_FAILURE] record layer failure (_ssl.c:1000)", "SCHEME"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", "TLS"),
        ("EOF occurred in violation of protocol (_ssl.c:1006)", "TLS"),
    ],
)
def test_what_openssl_says_is_named(text: str, fault: str) -> None:
    failure = Peer("h", 443, None).failed(text)
    assert failure.fault is Fault[fault]
    assert "h port 443" in str(failure)
