"""Requests that a bucket's owner makes, such as making the bucket, which lazyfs itself never does. Signed
with AWS Signature Version 4."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection

from tests.support.radosgw import Radosgw

_EVERYBODY_READS = """{"Version": "2012-10-17", "Statement": [
{"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"],
 "Resource": ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]}]}"""
_VERSIONED = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


def make_bucket(server: Radosgw, name: str) -> None:
    _request(server, "PUT", f"/{name}")


def let_everybody_read(server: Radosgw, bucket: str) -> None:
    _request(server, "PUT", f"/{bucket}", "policy=", _EVERYBODY_READS.replace("BUCKET", bucket).encode())


def keep_versions(server: Radosgw, bucket: str) -> None:
    _request(server, "PUT", f"/{bucket}", "versioning=", _VERSIONED.encode())


def _request(server: Radosgw, method: str, path: str, query: str = "", body: bytes = b"") -> None:
    target = f"{path}?{query}" if query else path
    headers = signed(server, method, target, {}, body)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, target, body, headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status < 300, (answer.status, said)


def signed(
    server: Radosgw, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> dict[str, str]:
    """Returns `headers` with a signature, by the server's account, over all of them."""
    now = datetime.now(UTC)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    path, _, query = target.partition("?")
    own = {"host": f"127.0.0.1:{server.port}", "x-amz-content-sha256": digest, "x-amz-date": stamp}
    fields = dict(
        sorted(({name: text for name, text in headers.items() if name != "authorization"} | own).items())
    )
    names = ";".join(fields)
    lines = "".join(f"{name}:{value}\n" for name, value in fields.items())
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{server.account.secret}".encode()
    for part in (*scope.split("/"), text):
        signature = hmac.new(key, part.encode(), hashlib.sha256)
        key = signature.digest()
    return fields | {
        "authorization": f"AWS4-HMAC-SHA256 Credential={server.account.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature.hexdigest()}"
    }
