"""Each format of wishlist: the wishes read from it, and the findings about its bad lines. A bad line affects
no other line."""

from textwrap import dedent

import pytest

from lazyfs.core.oci.manifest import Platform
from lazyfs.core.wishlist.read import Wishlist, read_wishlist

CERN = """\
version: 1
user: cvmfsunpacker
cvmfs_repo: 'unpacked.cern.ch'
output_format: 'https://gitlab-registry.cern.ch/unpacked/sync/$(image)'
input:
    - 'https://registry.hub.docker.com/library/centos:centos7'
    - 'https://registry.hub.docker.com/engineen/ilcsoft:test'
    - https://registry.hub.docker.com/llorente/threejet-nnlo:*
    - registry.example:5000/atlas/athanalysis:21.2.1*
"""
OSG = """\

# This file is a list of Docker images to synchronize to singularity.opensciencegrid.org.

# First, some generic CentOS images:
centos:latest
debian
opensciencegrid/osgvo-el7:*
hub.opensciencegrid.org/htc/rocky:8
# the end
"""
SKOPEO = """\
registry.example.com:
    images:
        busybox: []
        redis:
            - "1.0"
            - 2.10
            - sha256:0000000000000000000000000000000011111111111111111111111111111111
    images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine-perl$
    images-by-semver:
        alpine: ">= 3.12.0"
    tls-verify: false
quay.io:
    images:
        coreos/etcd:
            - latest
"""
REGSYNC = """\
version: 1
creds:
  - registry: registry.example:5000
    user: "{{env \\"HUB_USER\\"}}"
x-nightly: &nightly "15 01 * * *"
sync:
  - source: busybox:latest
    target: registry.example:5000/library/busybox:latest
    type: image
    schedule: *nightly
  - source: ghcr.io/regclient/regctl
    target: registry.example:5000/regclient/regctl
    type: repository
    platforms: [linux/amd64, linux/arm64]
    tags:
      allow:
        - "v.*"
        - latest
      deny:
        - "v0.1.*"
"""
OWN = """\
lazyfs: 1
defaults: {owner: physics, bind-points: [/pnfs]}
images:
  - registry.example/physics/analysis:3.10
  - image: registry.example/physics/analysis:*
    exclude: ['*-debug']
    keep-last: 2
    newer-than: 12w
    platforms: [amd64, arm64]
    layout: osg
    owner: atlas
    bind-points: [/afs, /eos/user]
  - {image: registry.example/tools/root, semver: '>=6.30, <7'}
  - '!registry.example/physics/analysis:*-rc*'
"""


def read(text: str) -> Wishlist:
    """Reads a list as editors save it, with a newline at its end."""
    return read_wishlist(f"{dedent(text)}\n".encode(), "list")


def said(text: str) -> list[str]:
    return [finding.text("list") for finding in read(text).findings]


def shown(text: str) -> list[tuple[int, str]]:
    return [(wish.line, wish.shown) for wish in read(text).wishes]


def test_cerns_list() -> None:
    assert read(CERN).format == "cern"
    assert shown(CERN) == [
        (6, "docker.io/library/centos:centos7"),
        (7, "docker.io/engineen/ilcsoft:test"),
        (8, "docker.io/llorente/threejet-nnlo:*"),
        (9, "registry.example:5000/atlas/athanalysis:21.2.1*"),
    ]
    choice = read(CERN).wishes[3].choice
    assert choice
    assert choice.of(["21.2.1", "21.2.10", "21.3.10", "x21.2.1", "21x2x1"]) == ["21.2.1", "21.2.10"]
    assert said(CERN) == ["list:4: output_format has no effect: nothing is pushed back"]
    assert read(CERN).complete


def test_every_placeholder_of_cerns_list_is_known_and_no_other() -> None:
    names = "$(scheme)$(registry)$(repository)$(tag)$(digest)$(reference)$(image)"
    assert len(said(f"input: [r.example/a:1]\noutput_format: {names}")) == 1
    assert "$(host) is no placeholder" in said("input: [r.example/a:1]\noutput_format: x$(host)y")[1]


def test_the_grids_list() -> None:
    assert read(OSG).format == "osg"
    assert shown(OSG) == [
        (5, "docker.io/library/centos:latest"),
        (6, "docker.io/library/debian:latest"),
        (7, "docker.io/opensciencegrid/osgvo-el7:*"),
        (8, "hub.opensciencegrid.org/htc/rocky:8"),
    ]
    assert {wish.extras.layout for wish in read(OSG).wishes} == {"osg"}


def test_skopeos_list() -> None:
    found = read(SKOPEO)
    assert found.format == "skopeo"
    assert [wish.shown for wish in found.wishes] == [
        "registry.example.com/busybox:*",
        "registry.example.com/redis:1.0",
        "registry.example.com/redis:2.10",
        "registry.example.com/redis@sha256:" + "0" * 32 + "1" * 32,
        "registry.example.com/nginx:regex ^1\\.13\\.[12]-alpine-perl$",
        "registry.example.com/alpine:semver >= 3.12.0",
        "quay.io/coreos/etcd:latest",
    ]
    alpine = found.wishes[5].choice
    assert alpine
    assert alpine.of(["3.11", "3.12", "3.20.1", "edge", "4.0.0-rc1"]) == ["3.12", "3.20.1"]
    assert said(SKOPEO) == ["list:12: tls-verify has no effect here"]


def test_a_regular_expression_of_skopeos_matches_anywhere() -> None:
    wish = read("r.example:\n  images-by-tag-regex:\n    app: '1\\.2'").wishes[0]
    assert wish.choice
    assert wish.choice.of(["v1.2.3", "1x2"]) == ["v1.2.3"]


def test_regsyncs_list() -> None:
    found = read(REGSYNC)
    assert found.format == "regsync"
    assert [wish.shown for wish in found.wishes] == [
        "docker.io/library/busybox:latest",
        "ghcr.io/regclient/regctl:allow v.* allow latest deny v0.1.*",
    ]
    wish = found.wishes[1]
    assert wish.choice
    assert wish.choice.of(["v1", "xv1", "latest", "latest-x", "v0.1.3", "v0.2"]) == ["v1", "latest", "v0.2"]
    assert wish.extras.platforms == (Platform("linux", "amd64"), Platform("linux", "arm64"))
    assert not found.errors
    assert all("HUB_USER" not in line for line in said(REGSYNC))


def test_no_allow_is_all_tags_in_regsyncs_list() -> None:
    entry = "sync: [{source: r.example/a, target: t.example/a, type: repository, tags: {deny: [x.*]}}]"
    (wish,) = read(entry).wishes
    assert wish.choice
    assert wish.choice.of(["a", "xa", "ax"]) == ["a", "ax"]


def test_our_own_list() -> None:
    found = read(OWN)
    assert found.format == "lazyfs"
    assert not found.findings
    exact, many, ranged = found.wishes
    assert exact.reference.tag == "3.10"
    assert (exact.extras.owner, exact.extras.bind_points) == ("physics", ("pnfs",))
    assert many.choice
    assert many.choice.of(["1", "2-debug", "3-rc1", "4"]) == ["1", "4"]
    assert many.choice.retention == (2, "version", 12 * 7 * 86400)
    assert many.extras.bind_points == ("afs", "eos/user")
    assert many.extras.layout == "osg"
    assert many.extras.owner == "atlas"
    assert ranged.choice
    assert ranged.choice.of(["6.28", "v6.32.2", "7.0", "latest"]) == ["v6.32.2"]


def test_a_command_to_profile_is_a_shells_words_or_a_list_of_them() -> None:
    text = """\
    lazyfs: 1
    defaults: {profile: 'root -b'}
    images:
      - {image: r.example/a:1, profile: python3 -c 'import this'}
      - {image: r.example/b:1, profile: [python3, -c, "import  that"]}
      - r.example/c:1
    """
    assert [wish.extras.profile for wish in read(text).wishes] == [
        ("python3", "-c", "import this"),
        ("python3", "-c", "import  that"),
        ("root", "-b"),
    ]
    for value, reason in (
        ('"\'open"', "No closing quotation"),
        ("[]", "names no command"),
        ("{a: b}", "profile is a mapping"),
        (f"[{'a,' * 101}]", "over 100 words"),
        ("", "profile is empty"),
    ):
        (said_of_it,) = said(
            f"lazyfs: 1\nimages: [{{image: r.example/a:1, profile: {value}}}, r.example/b:1]"
        )
        assert reason in said_of_it


def test_a_scalar_is_the_text_that_stands_there() -> None:
    text = "r.example:\n  images:\n    a: [3.10, 1e3, yes, 0x10, 1_000, 2024-01-01, .5]"
    tags = [wish.reference.tag for wish in read(text).wishes]
    assert tags == ["3.10", "1e3", "yes", "0x10", "1_000", "2024-01-01"]


BAD = [
    ("input: ['r.example/a:1', 'r.example/b', 'r.example/c:1']", 2, "names no tag"),
    ("input: ['r.example/a:1', 'r.example/B:1', 'r.example/c:1']", 2, "is not a repository"),
    ("input: ['r.example/a:1', 'ftp://r.example/b:1', 'r.example/c:1']", 2, "scheme 'ftp'"),
    ("input: ['r.example/a:1', 'r.example/*:1', 'r.example/c:1']", 2, "a * stands in tags only"),
    ("input: ['r.example/a:1', 'centos:7', 'r.example/c:1']", 2, "is no image"),
    ("input: ['r.example/a:1', 'library/centos:7', 'r.example/c:1']", 2, "is no registry's host"),
    ("input: ['r.example/a:1', {a: b}, 'r.example/c:1']", 2, "an image is a mapping"),
    ("input: ['r.example/a:1', '', 'r.example/c:1']", 2, "is no image"),
    ("input: ['r.example/a:1', , 'r.example/c:1']", 0, "not YAML"),
    ("input: ['r.example/a:1', 'me:secret@r.example/b:1', 'r.example/c:1']", 2, "no account"),
    ("input: ['r.example/a:1', 'r.example/b:1@sha256:12', 'r.example/c:1']", 2, "64 hex digits"),
    ("input: ['r.example/a:1', 'r.example/b:\"1', 'r.example/c:1']", 2, "is not a tag"),
    ("input:\n - r.example/a:1\n - !r.example/b:1\n - r.example/c:1", 0, "is a YAML tag"),
    ("input:\n - r.example/a:1\n - 'r.example/b:1\n - r.example/c:1", 2, "not YAML"),
    ('input:\n - r.example/a:1\n - "r.example/b:1\n - r.example/c:1', 2, "not YAML"),
    ("input:\n - r.example/a:1\n - @r.example/b:1\n - r.example/c:1", 2, "not YAML"),
    ("input:\n - r.example/a:1\n - [r.example/b:1\n - r.example/c:1", 2, "not YAML"),
    ("input:\n - r.example/a:1\n - *b\n - r.example/c:1", 0, "names no value"),
    ("a/b:1\nhttps://r.example/b/b:1\na/c:1", 2, "have no scheme"),
    ("a/b:1\nb:1 # hello\na/c:1", 2, "has spaces"),
    ("a/b:1\nr.example/b:1\na/c:1", 2, "no namespace has a dot"),
    ("a/b:1\nb:\na/c:1", 2, "names no tag"),
    ("a/b:1\nb@sha256:1\na/c:1", 2, "have no digest"),
    ("a/b:1\nb:[*\na/c:1", 3, ""),
    ("a/b:1\n///\na/c:1", 2, ""),
    ("r.example: {images-by-tag-regex: {a: '(', b: 'x'}, images: {c: [1]}}", 2, "is no pattern"),
    ("r.example: {images-by-tag-regex: {a: '(?=x)', b: 'x'}, images: {c: [1]}}", 2, "is no pattern"),
    ("r.example: {images-by-semver: {a: 'newest', b: '>1'}, images: {c: [1]}}", 2, "is no pattern"),
    ("r.example: {images: {a: {}, b: [1], c: [1]}}", 2, "is a mapping"),
    ("r.example: {images: {a: [1], b: [1], c: [[1]]}}", 2, "is a list"),
    ("sync: [{source: r.example/a}, {target: x}, {source: r.example/c}]", 2, "without source"),
    ("sync: [{source: r.example/a}, {source: b, type: registry}, {source: r.example/c}]", 2, "type registry"),
    ("sync: [{source: r.example/a}, {source: '{{.B}}'}, {source: r.example/c}]", 2, "templates"),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:1, keep-last: 3}, r.example/c:1]",
        2,
        "single tag",
    ),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:*, keep-last: 0}, r.example/c:1]",
        2,
        "keeps nothing",
    ),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:*, newer-than: 3}, r.example/c:1]",
        2,
        "is no age",
    ),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:1, bind-points: [x]}, r.example/c:1]",
        2,
        "absolute",
    ),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:1, bind-points: [/x/..]}, r.example/c:1]",
        2,
        "upwards",
    ),
    ("lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:1, layout: x}, r.example/c:1]", 2, "layout 'x'"),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:1, platforms: [a/b/c/d]}, r.example/c:1]",
        2,
        "platform",
    ),
    (
        "lazyfs: 1\nimages: [r.example/a:1, {image: r.example/b:1, image: r.example/d:1}, r.example/c:1]",
        2,
        "twice",
    ),
]


@pytest.mark.parametrize(("text", "left", "reason"), BAD)
def test_a_bad_line_is_one_message_and_harms_no_other(text: str, left: int, reason: str) -> None:
    found = read(text)
    names = [wish.reference.repository.rpartition("/")[2] for wish in found.wishes]
    assert len(names) == left
    if left == 2:
        assert len(set(names) & {"a", "b", "c"}) == 2
        assert len(found.errors) == 1
        assert found.errors[0].line
    assert reason in " ".join(said(text))
    assert all(line.isprintable() and len(line) < 500 for line in said(text))
    assert found.complete is (not found.errors)


def test_a_duplicate_key_is_an_error_with_both_lines() -> None:
    lines = said("input: [r.example/a:1]\nuser: x\ninput: [r.example/b:1]")
    assert any("line" in line and "1 and 3" in line for line in lines)
    found = read("r.example:\n  images:\n    a: [1]\n    b: [1]\n    a: [2]")
    assert [wish.shown for wish in found.wishes] == ["r.example/b:1"]
    assert "3 and 5" in found.errors[0].reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"# nothing\n\n", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"input:\n - r.example/a:1\n\xff\xfe", "UTF-8"),
        (b"- r.example/a:1\n- r.example/b:1\n", "no key at the top"),
        (b"servers: {a: 1}\n", "no known kind"),
        (b"lazyfs: 2\nimages: [r.example/a:1]", "version '2'"),
        (b"a: 1\n---\nb: 2\n", "second YAML document"),
        (b"x" * (8 << 20) + b"\n", "over"),
        (b"a: " + b"[" * 5000, "deep"),
        (b"a: " + b"[" * 40 + b"]" * 40, "deep"),
        (b"input: &a [*a]\n", "names no value"),
    ],
)
def test_what_is_no_list_says_so_and_nothing_of_what_is_not_wished(data: bytes, reason: str) -> None:
    found = read_wishlist(data, "list")
    assert not found.whole
    assert not found.complete
    assert reason in found.findings[0].reason


def test_a_list_without_wishes_says_nothing_of_what_is_not_wished() -> None:
    for text in ("input: []", "input:", "lazyfs: 1\nimages: []", "sync: []"):
        assert not read(text).complete


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    found = read_wishlist("\n".join([*lines, "input: *a8"]).encode(), "list")
    assert not found.whole
    assert "copies of aliases" in found.findings[0].reason


def test_nothing_is_expanded_from_the_environment_or_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    for value in (
        "$SECRET",
        "${SECRET}",
        "{{env SECRET}}",
        "!!python/name:os.environ",
        "!include /etc/passwd",
    ):
        found = read(f"input:\n - r.example/a:1\n - '{value}'\n - {value}\n")
        assert "hunter2" not in repr(found)
        assert "root:" not in repr(found)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a/b:1\na/c:1", 2), ("a/b:1\n\n# end\na/c", 4), ("input:\n  - r.example/a:1\n  - r.example/b:1", 3)],
)
def test_a_list_whose_last_line_does_not_end_may_be_cut(text: str, line: int) -> None:
    cut, whole = (read_wishlist(data.encode(), "list") for data in (text, text + "\n"))
    assert (whole.complete, cut.complete) == (True, False)
    assert cut.wishes == whole.wishes
    assert [finding.line for finding in cut.errors] == [line]
    assert "no newline at the end" in cut.errors[0].reason


@pytest.mark.parametrize("text", ['{"input": ["r.example/a:1"]}', "input: [r.example/a:1]"])
def test_a_list_that_brackets_end_needs_no_newline(text: str) -> None:
    assert read_wishlist(text.encode(), "list").complete


@pytest.mark.parametrize("word", ["forbidden", "maintenance", "ok"])
def test_one_word_may_be_a_servers_answer(word: str) -> None:
    answer = read(f"# 503\n{word}")
    assert not answer.complete
    assert answer.errors[0].line == 2
    assert "may be a server's answer" in answer.errors[0].reason
    assert read(f"{word}:latest").complete
    assert read(f"{word}\ndebian").complete


@pytest.mark.parametrize(
    "text",
    [
        "input:\n - https://me:word@r.example/b:1\n",
        "input:\n - ftp://me:word@r.example/b:1\n",
        "lazyfs: 1\nimages:\n - me:word@r.example/b:1\n",
        "sync:\n - source: me:word@r.example/b:1\n",
        "sync:\n - source: me:word@r.example/b\n   type: repository\n",
        "a/b:1\nme:word@r.example/b:1\n",
        "input:\n - 'https://me:word@r.example/b:1\n",
    ],
)
def test_no_finding_repeats_an_account(text: str) -> None:
    found = read_wishlist(text.encode(), "list").findings
    assert found
    assert not [finding for finding in found if "word" in finding.text("list")]
