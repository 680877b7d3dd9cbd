"""The key behind the simulated KMS, in moto: what is encrypted under it can be read after every restart.

moto keeps its world in memory, and patches the AWS client of the whole process while that world is there. So it is
there for the length of one call, and our key, whose material a file keeps, is put into it each time.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from pinaivu_simulator.kms.fault import KmsFault

MOTO_REGION: Final = "us-east-1"  # moto knows AWS's regions only
_CONTEXT_NAME: Final = "context"
_FOREIGN: Final = frozenset(("AccessDeniedException", "InvalidCiphertextException", "NotFoundException"))


@dataclass(frozen=True, kw_only=True)
class StoredKey:
    """A symmetric key: its id (a UUID) and 32 secret bytes."""

    id: str
    material: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DataKey:
    """32 fresh bytes, and the same encrypted under the key."""

    plaintext: bytes = field(repr=False)
    ciphertext: bytes


class KeyStore(Protocol):
    """What KMS does with one symmetric key."""

    def generate(self, context: Mapping[str, str]) -> DataKey:
        """A fresh data key bound to this encryption context."""
        ...

    def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext; KmsFault("InvalidCiphertextException") for another key's, another context's or garbage."""
        ...


class MotoKeyStore:
    """`KeyStore` by moto and its AWS client. For one thread: the patch is the whole process's."""

    def __init__(self, stored: StoredKey) -> None:
        import boto3  # noqa: PLC0415  half a second, which only who serves KMS should wait
        from moto.core.models import DEFAULT_ACCOUNT_ID  # noqa: PLC0415
        from moto.kms.models import KmsBackend  # noqa: PLC0415

        maker = KmsBackend(MOTO_REGION, DEFAULT_ACCOUNT_ID)
        self._key = maker.create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "", tags=None)
        self._key.id, self._key.key_material = stored.id, stored.material
        self._client = boto3.client(
            "kms",
            region_name=MOTO_REGION,
            aws_access_key_id="moto",
            aws_secret_access_key="moto",  # noqa: S106  moto asks for any
            endpoint_url=f"https://kms.{MOTO_REGION}.amazonaws.com",  # where moto waits, whatever the environment says
        )

    def generate(self, context: Mapping[str, str]) -> DataKey:
        """See `KeyStore`."""
        with self._moto():
            made = self._client.generate_data_key(
                KeyId=self._key.id, KeySpec="AES_256", EncryptionContext=_unambiguous(context)
            )
        return DataKey(plaintext=made["Plaintext"], ciphertext=made["CiphertextBlob"])

    def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """See `KeyStore`."""
        from botocore.exceptions import ClientError  # noqa: PLC0415

        try:
            with self._moto():
                found = self._client.decrypt(
                    KeyId=self._key.id, CiphertextBlob=ciphertext, EncryptionContext=_unambiguous(context)
                )
        except ClientError as error:
            if error.response["Error"]["Code"] not in _FOREIGN:
                raise
            raise KmsFault("InvalidCiphertextException") from None
        plaintext: bytes = found["Plaintext"]
        return plaintext

    @contextmanager
    def _moto(self) -> Iterator[None]:
        from moto import mock_aws  # noqa: PLC0415
        from moto.kms.models import kms_backends  # noqa: PLC0415

        with mock_aws(config={"core": {"mock_credentials": False, "reset_boto3_session": False}}):
            kms_backends[self._key.account_id][MOTO_REGION].keys[self._key.id] = self._key
            yield


def _unambiguous(context: Mapping[str, str]) -> dict[str, str]:
    """The context as one entry: moto joins keys and values without separators, so {a: bc} would equal {ab: c}."""
    return {_CONTEXT_NAME: json.dumps(context, sort_keys=True)}
