"""The decisions of a bucket's store that need no server: locations, profiles, the pace, the meaning of
refusals."""

import json
import os
import stat
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from obstore import exceptions

from lazyfs.core.errors import UsageError
from lazyfs.store.s3.credentials import Credentials, Profile
from lazyfs.store.s3.failures import Meaning, read_failure
from lazyfs.store.s3.location import parse_location
from lazyfs.store.s3.pace import Pace

SECRET = "wJalrXUtnFEMI/K7MDENG"


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://a.b-c/x/y/", "a.b-c", "x/y"),
    ],
)
def test_a_location_is_a_bucket_and_a_prefix(text: str, bucket: str, prefix: str) -> None:
    assert parse_location(text) == (bucket, prefix)
    assert str(parse_location(text)) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/x?y",
        "s3://b\u00fccket/x",
        "s3://b/\n",
    ],
)
def test_another_location_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^store s3://.*: "):
        parse_location(text)


def test_a_secret_in_a_location_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="no account, secret or port") as refused:
        parse_location(f"s3://KEY:{SECRET.replace('/', '')}@bucket/x")
    assert SECRET.replace("/", "") not in str(refused.value)


def write_files(home: Path, credentials: str, config: str = "") -> dict[str, str]:
    """Writes the two files of the user's .aws directory; returns the environment in which they are found."""
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws/credentials").write_text(credentials)
    (home / ".aws/config").write_text(config)
    return {"HOME": str(home)}


def test_the_environment_comes_before_the_files(tmp_path: Path) -> None:
    found = write_files(tmp_path, f"[default]\naws_access_key_id=file\naws_secret_access_key={SECRET}\n")
    found |= {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "other", "AWS_SESSION_TOKEN": "token"}
    assert Profile(found).credentials() == Credentials("env", "other", "token", None)
    del found["AWS_SECRET_ACCESS_KEY"]
    assert Profile(found).credentials() == Credentials("file", SECRET, None, None)


def test_a_named_profile_gives_credentials_region_and_endpoint(tmp_path: Path) -> None:
    found = write_files(
        tmp_path,
        f"[site]\naws_access_key_id = key\naws_secret_access_key = {SECRET}\naws_session_token = token\n",
        "[default]\nregion = wrong\n[profile site]\nregion = eu-west-1\nendpoint_url = https://s3.site\n",
    ) | {"AWS_PROFILE": "site", "AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "other"}
    profile = Profile(found)
    assert profile.credentials() == Credentials("key", SECRET, "token", None)
    assert profile.surroundings()[:2] == ("https://s3.site", "eu-west-1")
    assert Profile(found | {"AWS_ENDPOINT_URL": "http://other"}).surroundings().endpoint == "http://other"


def test_files_are_read_anew_each_time(tmp_path: Path) -> None:
    found = write_files(tmp_path, "[default]\naws_access_key_id=one\naws_secret_access_key=x\n")
    profile = Profile(found)
    first = profile.credentials()
    write_files(tmp_path, "[default]\naws_access_key_id=two\naws_secret_access_key=x\n")
    second = profile.credentials()
    assert first is not None
    assert second is not None
    assert (first.access_key, second.access_key) == ("one", "two")


def test_a_profile_may_name_a_process(tmp_path: Path) -> None:
    given = {
        "Version": 1,
        "AccessKeyId": "k",
        "SecretAccessKey": SECRET,
        "Expiration": "2026-01-02T03:04:05Z",
    }
    script = tmp_path / "give"
    script.write_text(f"#!{sys.executable}\nprint({json.dumps(json.dumps(given))})\n")
    script.chmod(stat.S_IRWXU)
    found = write_files(tmp_path, "", f"[default]\ncredential_process = {script}\n")
    expected = Credentials("k", SECRET, None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert Profile(found).credentials() == expected


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[default]\ncredential_process = /bin/false\n", "exited with 1"),
        ("[default]\ncredential_process = /bin/echo secret\n", "no credentials in AWS's form"),
        ("[default]\nrole_arn = arn:aws:iam::1:role/x\n", "credential_process = aws configure export"),
        ("[default\n", "no file of profiles"),
    ],
)
def test_a_profile_that_cannot_be_followed_says_so(tmp_path: Path, config: str, said: str) -> None:
    profile = Profile(write_files(tmp_path, "", config))
    with pytest.raises(UsageError, match=said) as refused:
        profile.credentials()
    assert "secret" not in str(refused.value).replace("AWS_SECRET", "")


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="AWS_PROFILE=nobody"):
        Profile({"HOME": str(tmp_path), "AWS_PROFILE": "nobody"}).credentials()


def test_credentials_show_nothing_of_themselves() -> None:
    assert SECRET not in f"{Credentials('k', SECRET, 'token', None)!r}"
    assert SECRET not in str(Credentials("k", SECRET, "token", None))


def test_the_clouds_own_credentials_are_left_to_obstore(tmp_path: Path) -> None:
    assert Profile({"HOME": str(tmp_path)}).credentials() is None
    found = {"HOME": str(tmp_path), "AWS_WEB_IDENTITY_TOKEN_FILE": os.devnull}
    assert Profile(found).credentials() is None


def refusal(status: int, code: str, kind: type[Exception] = exceptions.GenericError) -> Exception:
    return kind(
        f"Error performing PUT http://host/b/key in 1ms - Server returned error status code: {status} X: "
        f"<Error><Code>{code}</Code><CanonicalRequest>x-amz-security-token:{SECRET}</CanonicalRequest></Error>"
    )


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (refusal(503, "SlowDown"), Meaning.TOO_FAST),
        (refusal(503, ""), Meaning.TOO_FAST),
        (refusal(429, "TooManyRequests"), Meaning.TOO_FAST),
        (refusal(500, "InternalError"), Meaning.PASSING),
        (refusal(502, ""), Meaning.PASSING),
        (refusal(409, "ConditionalRequestConflict", exceptions.AlreadyExistsError), Meaning.PASSING),
        (refusal(412, "PreconditionFailed", exceptions.AlreadyExistsError), Meaning.PRECONDITION),
        (refusal(412, "PreconditionFailed", exceptions.PreconditionError), Meaning.PRECONDITION),
        (refusal(400, "XAmzContentSHA256Mismatch"), Meaning.PASSING),
        (refusal(400, "RequestTimeout"), Meaning.PASSING),
        (refusal(400, "ExpiredToken"), Meaning.CREDENTIALS),
        (refusal(403, "SignatureDoesNotMatch", exceptions.PermissionDeniedError), Meaning.CREDENTIALS),
        (refusal(404, "NoSuchKey", FileNotFoundError), Meaning.ABSENT),
        (refusal(404, "NoSuchBucket", FileNotFoundError), Meaning.FINAL),
        (refusal(501, "NotImplemented"), Meaning.FINAL),
        (refusal(400, "InvalidRequest"), Meaning.FINAL),
        (exceptions.GenericError("Generic S3 error: HTTP error: error sending request"), Meaning.PASSING),
    ],
)
def test_a_refusal_means_by_its_status_and_code(error: Exception, meaning: Meaning) -> None:
    failure = read_failure(error)
    assert failure.meaning == meaning
    assert SECRET not in failure.text
    assert "host" not in failure.text


def test_slow_down_halves_the_requests_at_once_one_time_for_all_that_were_under_way() -> None:
    pace = Pace(16)
    with pace.turn() as one, pace.turn() as two:
        pass
    pace.slow_down(one)
    pace.slow_down(two)
    assert pace.limit == 8
    for _ in range(10):
        with pace.turn() as ticket:
            pace.slow_down(ticket)
    assert pace.limit == 1
    for _ in range(1 + 2 + 3):
        pace.went_well()
    assert pace.limit == 4
    for _ in range(1000):
        pace.went_well()
    assert pace.limit == 16


def test_no_more_threads_pass_than_the_limit_says() -> None:
    pace = Pace(3)
    inside, most = [0], [0]
    mutex = threading.Lock()
    full = threading.Barrier(3)

    def pass_through(first: bool) -> None:
        with pace.turn():
            with mutex:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            if first:
                full.wait(10)
            with mutex:
                inside[0] -= 1

    threads = [threading.Thread(target=pass_through, args=(number < 3,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most[0] == 3
