"""Webhooks from registries: who may send them, and which pushes they announce. The bodies are examples from
the senders' documentation."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError
from lazyfs.core.webhooks.proofs import KINDS, proven, signature
from lazyfs.core.webhooks.pushes import MOST_PUSHES, Push, PushedImages, pushes_of

SECRET = "a-secret-of-the-site"
DOCKER = {
    "events": [
        {
            "id": "320678d8-ca14-430f-8bb6-4ca139cd83f7",
            "timestamp": "2016-03-09T14:44:26.402973972-08:00",
            "action": "pull",
            "target": {"repository": "hello-world", "tag": "latest"},
        },
        {
            "id": "asdf-asdf-asdf-asdf-0",
            "timestamp": "2006-01-02T15:04:05Z",
            "action": "push",
            "target": {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "length": 1,
                "digest": "sha256:fea8895f450959fa676bcc1df0611ea93823a735a01205fd8622846041d0c7cf",
                "repository": "library/test",
                "url": "http://example.com/v2/library/test/manifests/sha256:c3b3692957d439ac1928219a83fac91e7bf96c",
                "tag": "1.0",
            },
            "request": {"id": "asdfasdf", "addr": "client.local", "host": "registrycluster.local"},
            "actor": {"name": "test-actor"},
        },
        {
            "action": "push",
            "target": {"mediaType": "application/octet-stream", "repository": "library/test"},
        },
    ]
}
HARBOR = {
    "type": "PUSH_ARTIFACT",
    "occur_at": 1586922308,
    "operator": "admin",
    "event_data": {
        "resources": [
            {
                "digest": "sha256:8a9e9863dbb6e10edb5adfe917c00da84e1700fa76e7ed02476aa6e6fb8ee0d8",
                "tag": "latest",
                "resource_url": "hub.harbor.com/test-webhook/debian:latest",
            }
        ],
        "repository": {
            "date_created": 1586922308,
            "name": "debian",
            "namespace": "test-webhook",
            "repo_full_name": "test-webhook/debian",
            "repo_type": "private",
        },
    },
}
HARBOR_CLOUD = {
    "specversion": "1.0",
    "id": "66f1a7f3-1e5c-4d75-a1d1-9d1b1c1b2f3e",
    "source": "/projects/1/webhook/policies/15",
    "type": "harbor.artifact.pushed",
    "datacontenttype": "application/json",
    "time": "2023-04-03T06:50:22Z",
    "data": HARBOR["event_data"],
    "operator": "admin",
}
PIPELINE = {
    "object_kind": "pipeline",
    "object_attributes": {"id": 31, "ref": "master", "status": "success", "stages": ["build"]},
    "project": {"id": 1, "name": "Gitlab Test", "path_with_namespace": "Physics/Gitlab-Test"},
}
GITHUB = {
    "action": "published",
    "registry_package": {
        "id": 1,
        "name": "hello-docker",
        "namespace": "octo-org",
        "ecosystem": "CONTAINER",
        "package_type": "CONTAINER",
        "package_version": {
            "version": "sha256:b3d3e366b55f9a54599220198b3db5da8f53592acbbb7dc7e4e9878762fc5344",
            "container_metadata": {"tag": {"name": "1.2", "digest": "sha256:b3d3"}, "labels": {}},
            "package_url": "ghcr.io/octo-org/hello-docker:1.2",
        },
    },
    "sender": {"login": "Codertocat"},
}


def told(kind: str, body: Any, registry: str = "r.example") -> list[Push]:
    return pushes_of(kind, registry, json.dumps(body).encode())


def test_the_pushes_of_each_kind() -> None:
    assert told("docker", DOCKER) == [Push("r.example", "library/test", "1.0")]
    assert told("harbor", HARBOR) == [Push("r.example", "test-webhook/debian", "latest")]
    assert told("harbor", HARBOR_CLOUD) == [Push("r.example", "test-webhook/debian", "latest")]
    assert told("gitlab", DOCKER) == [Push("r.example", "library/test", "1.0")]
    assert told("gitlab", PIPELINE) == [Push("r.example", "physics/gitlab-test", below=True)]
    assert told("github", GITHUB, "ghcr.io") == [Push("ghcr.io", "octo-org/hello-docker", "1.2")]
    assert told("docker", DOCKER, "index.docker.io") == [Push("docker.io", "library/test", "1.0")]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("harbor", {"type": "DELETE_ARTIFACT", "event_data": HARBOR["event_data"]}),
        ("harbor", {"type": "PUSH_ARTIFACT"}),
        ("gitlab", {**PIPELINE, "object_attributes": {"status": "failed"}}),
        ("gitlab", {"object_kind": "push", "project": PIPELINE["project"]}),
        ("github", {"zen": "Anything added dilutes everything else.", "hook_id": 1}),
        ("github", {**GITHUB, "action": "deleted"}),
        ("github", {"action": "published", "registry_package": {"name": "a", "package_type": "npm"}}),
        ("docker", {"events": [{"action": "push", "target": {"repository": "../../etc", "tag": "1"}}]}),
        ("docker", {"events": [{"action": "push", "target": {"repository": "a", "tag": "x y\u202e"}}]}),
        ("docker", {"events": [{"action": "push", "target": {"repository": "a@sha256:b", "tag": "1"}}]}),
    ],
)
def test_what_tells_of_no_push_that_can_be_wished(kind: str, body: Any) -> None:
    assert told(kind, body) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'"x"', b"\xff", b'{"events": 1, "type": 1, "action": 1}']
)
def test_a_body_that_is_none_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(FormatError, match="no webhook"):
        pushes_of(kind, "r.example", body)


def test_a_body_of_too_many_pushes_is_refused() -> None:
    events = [
        {"action": "push", "target": {"repository": "a", "tag": str(number)}}
        for number in range(MOST_PUSHES + 1)
    ]
    assert len(told("docker", {"events": events[1:]})) == MOST_PUSHES
    with pytest.raises(FormatError, match="1001 pushes"):
        told("docker", {"events": events})


@given(st.sampled_from(KINDS), st.binary(max_size=200) | st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(
        st.sampled_from(["events", "type", "event_data", "object_kind", "project", "action", "target",
                         "registry_package", "package_version", "repository", "resources", "tag"]), inner)
    | st.lists(inner)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_gives_pushes_or_one_error(kind: str, body: bytes) -> None:
    try:
        found = pushes_of(kind, "r.example", body)
    except FormatError:
        return
    assert all(push.registry == "r.example" for push in found)


def fields(**values: str) -> Any:
    named = {name.replace("_", "-").lower(): value for name, value in values.items()}
    return lambda name: named.get(name.lower(), "")


def test_who_knows_the_secret_is_believed_and_nobody_else() -> None:
    body, now = b'{"a": 1}', 1_700_000_000.0

    def believed(kind: str, sent: Any, *, secret: str = SECRET, what: bytes = body) -> bool:
        return proven(kind, secret, sent, what, now)

    for kind in ("docker", "harbor", "gitlab"):
        assert believed(kind, fields(Authorization=SECRET))
        assert believed(kind, fields(Authorization=f"Bearer {SECRET}"))
        for wrong in (
            "",
            "Bearer ",
            SECRET[:-1],
            f"{SECRET} ",
            SECRET.upper(),
            f"Basic {SECRET}",
            "\xe9" * 20,
        ):
            assert not believed(kind, fields(Authorization=wrong)), wrong
        assert not believed(kind, fields(Authorization=""), secret="")
        assert not believed(kind, fields(Authorization="Bearer "), secret="")
    assert believed("gitlab", fields(X_Gitlab_Token=SECRET))
    assert not believed("gitlab", fields(X_Gitlab_Token=SECRET[1:]))
    assert not believed("harbor", fields(X_Gitlab_Token=SECRET))
    right = signature(SECRET, body)
    assert right == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert believed("github", fields(X_Hub_Signature_256=right))
    assert not believed("github", fields(X_Hub_Signature_256=right), what=body + b" ")
    assert not believed("github", fields(X_Hub_Signature_256=right.removeprefix("sha256=")))
    assert not believed("github", fields(Authorization=SECRET))


def test_github_signs_as_its_documentation_says() -> None:
    """The example is from "Validating webhook deliveries" in GitHub's documentation."""
    assert signature("It's a Secret to Everybody", b"Hello, World!") == (
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


@pytest.mark.parametrize(
    ("apart", "believed"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)]
)
def test_gitlabs_signed_webhooks_hold_for_minutes(apart: int, believed: bool) -> None:
    key = b"0123456789abcdef0123456789abcdef"
    secret = f"whsec_{base64.b64encode(key).decode()}"
    stated = str(1_700_000_000 + apart)
    mac = hmac.new(key, f"msg-1.{stated}.{{}}".encode(), hashlib.sha256).digest()
    signed = "v1," + base64.b64encode(mac).decode()
    sent = fields(webhook_id="msg-1", webhook_timestamp=stated, webhook_signature=f"v1,abc {signed}")
    assert proven("gitlab", secret, sent, b"{}", 1_700_000_000.0) is believed
    other = fields(webhook_id="msg-2", webhook_timestamp=stated, webhook_signature=signed)
    assert not proven("gitlab", secret, other, b"{}", 1_700_000_000.0)


def test_pushes_are_found_by_repository_and_project() -> None:
    pushed = PushedImages([Push("r", "a/b", "1"), Push("r", "p/q", below=True), Push("other", "a/b", "2")])
    assert pushed.has("r", "a/b", "1")
    assert not pushed.has("r", "a/b", "2")
    assert not pushed.has("r", "a/b/c", "1")
    assert pushed.has("r", "p/q", None)
    assert pushed.has("r", "p/q/deep/er", "9")
    assert not pushed.has("r", "p/qq", "9")
    assert not pushed.has("r", "p", "9")
