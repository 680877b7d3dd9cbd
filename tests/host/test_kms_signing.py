"""Signatures for KMS: what they cover, that they are AWS's, where credentials come from and what is never shown."""

import asyncio
import datetime as dt
import hashlib
import hmac
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError, ProfileNotFound
from hypothesis import given
from hypothesis import strategies as st

from pinaivu_host.errors import CredentialsUnavailableError
from pinaivu_host.kms_signing import CredentialSource, find_with_boto3, signed_headers
from pinaivu_shared.logs import configure_logging
from pinaivu_shared.wire.kms import KMS_CONTENT_TYPE, SIGNED_HEADERS, SignedHeaders, SignRequest

pytestmark = pytest.mark.anyio

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "session-token-of-the-tests"
REQUEST = SignRequest(
    endpoint="kms.eu-west-1.amazonaws.com",
    region="eu-west-1",
    target="TrentService.GenerateDataKey",
    body_sha256=hashlib.sha256(b"a body that the host never sees").hexdigest(),
)
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/(?P<scope>[^,]+), SignedHeaders=(?P<names>[^,]+), "
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


def signature_of(secret: str, date: str, scope: str, canonical_request: str) -> str:
    """AWS Signature Version 4 by its specification, without botocore."""
    hashed = hashlib.sha256(canonical_request.encode()).hexdigest()
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}".encode(), "sha256").hex()


def canonical_request(headers: Mapping[str, str], body_sha256: str) -> str:
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    return f"POST\n/\n\n{lines}\n{';'.join(sorted(headers))}\n{body_sha256}"


def covered(request: SignRequest, answer: SignedHeaders) -> dict[str, str]:
    headers = {
        "content-type": KMS_CONTENT_TYPE,
        "host": request.endpoint,
        "x-amz-content-sha256": request.body_sha256,
        "x-amz-date": answer.amz_date,
        "x-amz-target": request.target,
    }
    return headers | ({"x-amz-security-token": answer.security_token} if answer.security_token else {})


def test_our_reading_of_the_specification_gives_the_published_signature() -> None:
    """Vector `post-vanilla` of AWS's Signature Version 4 test suite."""
    request = canonical_request(
        {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}, hashlib.sha256().hexdigest()
    )
    assert (
        signature_of(
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "20150830T123600Z",
            "20150830/us-east-1/service/aws4_request",
            request,
        )
        == "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )


@pytest.mark.parametrize("token", [None, "", TOKEN])
@pytest.mark.parametrize("target", ["TrentService.GenerateDataKey", "TrentService.Decrypt"])
def test_a_signature_covers_exactly_the_agreed_headers(token: str | None, target: Any) -> None:
    request = SignRequest(REQUEST.endpoint, REQUEST.region, target, REQUEST.body_sha256)
    answer = signed_headers(ReadOnlyCredentials("AKIDEXAMPLE", SECRET, token), request)
    found = AUTHORIZATION.fullmatch(answer.authorization)
    assert found is not None
    expected = covered(request, answer)
    assert set(expected) == {*SIGNED_HEADERS, *(["x-amz-security-token"] if token else [])}
    assert found["names"] == ";".join(sorted(expected))
    assert (found["key"], found["scope"]) == ("AKIDEXAMPLE", f"{answer.amz_date[:8]}/eu-west-1/kms/aws4_request")
    computed = signature_of(SECRET, answer.amz_date, found["scope"], canonical_request(expected, request.body_sha256))
    assert found["signature"] == computed


@given(st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=0x100), max_size=30))
def test_any_token_is_carried_as_it_is_or_refused(token: str) -> None:
    try:
        answer = signed_headers(ReadOnlyCredentials("AKIDEXAMPLE", SECRET, token), REQUEST)
    except CredentialsUnavailableError:
        assert re.fullmatch(r"[!-~]*", token) is None
    else:
        assert answer.security_token == token
        assert re.fullmatch(r"[!-~]*", token)


class Role:
    """An instance role: each fetch gives credentials for one hour of a clock that the test moves."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
        self.fetched = 0
        self.fails: Exception | None = None
        self.credentials = RefreshableCredentials(
            **self.fetch_fields(), refresh_using=self.fetch, method="iam-role", time_fetcher=lambda: self.now
        )

    def fetch_fields(self) -> dict[str, Any]:
        fields = self.fetch()
        return {**fields, "expiry_time": dt.datetime.fromisoformat(fields["expiry_time"])}

    def fetch(self) -> dict[str, str]:
        if self.fails is not None:
            raise self.fails
        self.fetched += 1
        return {
            "access_key": f"ASIA{self.fetched}",
            "secret_key": SECRET,
            "token": f"{TOKEN}-{self.fetched}",
            "expiry_time": (self.now + dt.timedelta(hours=1)).isoformat(),
        }

    def find(self) -> Credentials:
        return self.credentials


async def test_credentials_that_expired_are_fetched_anew_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    role = Role()
    source = CredentialSource(role.find)
    assert (await source.current()).token == f"{TOKEN}-1"
    assert caplog.messages == []
    role.now += dt.timedelta(hours=2)
    assert (await source.current()).token == f"{TOKEN}-2"
    assert (await source.current()).access_key == "ASIA2"
    assert caplog.messages == ["AWS credentials have expired, boto3 fetches new ones"]


async def test_credentials_that_expired_and_do_not_come_are_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    role = Role()
    source = CredentialSource(role.find)
    role.now += dt.timedelta(hours=2)
    role.fails = CredentialRetrievalError(provider="iam-role", error_msg=f"{TOKEN} is not for logs")
    with pytest.raises(CredentialsUnavailableError, match="cannot be fetched: CredentialRetrievalError") as caught:
        await source.current()
    assert TOKEN not in str(caught.value)
    role.fails = None
    assert (await source.current()).token == f"{TOKEN}-2"


async def test_fetched_credentials_that_have_expired_as_well_are_none() -> None:
    role = Role()
    role.now += dt.timedelta(hours=2)
    role.credentials._refresh_using = lambda: {  # type: ignore[attr-defined]  # botocore's own
        **role.fetch(),
        "expiry_time": (role.now - dt.timedelta(hours=1)).isoformat(),
    }
    with pytest.raises(CredentialsUnavailableError, match="RuntimeError"):
        await CredentialSource(role.find).current()


@pytest.mark.parametrize(
    ("find", "text"),
    [
        (lambda: None, "no AWS credentials: give the instance a role"),
        (lambda: raising(ProfileNotFound(profile="prod")), "cannot be fetched: ProfileNotFound"),
        (lambda: raising(PermissionError(13, "Permission denied")), "cannot be fetched: PermissionError"),
    ],
)
async def test_what_is_missing_is_said(find: Callable[[], Credentials | None], text: str) -> None:
    with pytest.raises(CredentialsUnavailableError, match=text):
        await CredentialSource(find).current()


def raising(error: Exception) -> None:
    raise error


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any credentials; the folder is where its AWS files would be."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


async def test_boto3_looks_in_the_environment_and_in_its_files_each_time(
    no_aws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = CredentialSource(find_with_boto3)
    with pytest.raises(CredentialsUnavailableError, match="give the instance a role"):
        await source.current()
    file = no_aws / "credentials"
    for key in ("FIRST", "SECOND"):
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n")
        assert (await source.current()).access_key == key
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "THIRD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    assert await source.current() == ReadOnlyCredentials("THIRD", SECRET, TOKEN)
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    with pytest.raises(CredentialsUnavailableError, match="ProfileNotFound"):
        await source.current()


async def test_credentials_that_do_not_come_in_time_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinaivu_host.kms_signing.CREDENTIALS_LIMIT_S", 0.01)
    answer = threading.Event()

    def find() -> None:
        answer.wait()

    with pytest.raises(CredentialsUnavailableError, match="in time"):
        await CredentialSource(find).current()
    answer.set()


async def test_one_look_up_runs_at_a_time() -> None:
    running = most = 0
    loop = asyncio.get_running_loop()

    def find() -> Credentials:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):  # the others have their chance
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        running -= 1
        return Credentials("A", "S")

    source = CredentialSource(find)
    await asyncio.gather(*(source.current() for _ in range(20)))
    assert most == 1


async def test_no_secret_token_or_signature_is_ever_logged(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    configure_logging("debug")
    try:
        role = Role()
        role.now += dt.timedelta(hours=2)
        answer = signed_headers(await CredentialSource(role.find).current(), REQUEST)
        logging.getLogger("tests").debug("the end")
    finally:
        logging.captureWarnings(capture=False)
        root.handlers = before[1]
        root.setLevel(before[0])
    logged = capsys.readouterr().err
    assert "the end" in logged
    assert "AWS credentials have expired" in logged
    for hidden in (SECRET, TOKEN, answer.authorization.rsplit("=", 1)[1], json.dumps(answer.security_token)):
        assert hidden not in logged
