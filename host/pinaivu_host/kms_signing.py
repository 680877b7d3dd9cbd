"""What the host adds to a KMS request: AWS Signature Version 4 with the instance's credentials, by botocore.

The host signs the hash of a body that it does not see. A signature lets nobody open the vault: the key's policy demands
an attestation document in the body (kms_policy).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError

from pinaivu_host.errors import CredentialsUnavailableError
from pinaivu_shared.wire.kms import KMS_CONTENT_TYPE, KMS_SERVICE, SignedHeaders, SignRequest

logger = logging.getLogger(__name__)
logging.getLogger("botocore").setLevel(logging.WARNING)  # at debug it logs session tokens and signatures

CREDENTIALS_LIMIT_S: Final = 20.0
FindCredentials = Callable[[], Credentials | None]


def find_with_boto3() -> Credentials | None:
    """Credentials from boto3's chain (environment, profile, instance role), looked for anew: files and roles change."""
    import boto3  # noqa: PLC0415 - heavy, and an enclave asks once in its life

    return boto3.Session().get_credentials()


class CredentialSource:
    """The AWS credentials of this machine, one look-up at a time and in a thread, since it may ask over the network."""

    def __init__(self, find: FindCredentials) -> None:
        self._find = find
        self._one_at_a_time = asyncio.Lock()

    async def current(self) -> ReadOnlyCredentials:
        """Credentials that have not expired; CredentialsUnavailableError when there are none at the moment."""
        try:
            async with asyncio.timeout(CREDENTIALS_LIMIT_S), self._one_at_a_time:
                return await asyncio.to_thread(_look_up, self._find)
        except TimeoutError:
            raise CredentialsUnavailableError("AWS credentials did not come in time") from None


def _look_up(find: FindCredentials) -> ReadOnlyCredentials:
    try:
        found = find()
        if found is None:
            raise CredentialsUnavailableError(
                "no AWS credentials: give the instance a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
            )
        if isinstance(found, RefreshableCredentials) and found.refresh_needed(0):
            logger.warning("AWS credentials have expired, boto3 fetches new ones", extra={"kv": {"from": found.method}})
        return found.get_frozen_credentials()
    except (BotoCoreError, ClientError, RuntimeError, OSError) as error:
        raise CredentialsUnavailableError(f"AWS credentials cannot be fetched: {type(error).__name__}") from error


def signed_headers(credentials: ReadOnlyCredentials, request: SignRequest) -> SignedHeaders:
    """The headers of this request, signed now over exactly SIGNED_HEADERS and the session token if there is one.

    CredentialsUnavailableError for credentials that no header can carry.
    """
    signing = AWSRequest(
        method="POST",
        url=f"https://{request.endpoint}/",
        headers={
            "Content-Type": KMS_CONTENT_TYPE,
            "Host": request.endpoint,
            "X-Amz-Content-SHA256": request.body_sha256,
            "X-Amz-Target": request.target,
        },
    )
    SigV4Auth(credentials, KMS_SERVICE, request.region).add_auth(signing)
    headers = {
        "type": SignedHeaders.__name__,
        "authorization": signing.headers["Authorization"],
        "amz_date": signing.headers["X-Amz-Date"],
        "security_token": credentials.token or "",
    }
    try:
        return msgspec.convert(headers, SignedHeaders)
    except msgspec.ValidationError:
        raise CredentialsUnavailableError(
            "the AWS credentials hold characters that no header can carry: a line break at their end?"
        ) from None
