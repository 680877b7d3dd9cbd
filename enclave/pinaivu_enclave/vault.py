"""The vault secret: 32 bytes that survive a restart, from which the checkpoint and settlement keys are derived."""

from dataclasses import dataclass, field
from typing import Protocol

from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import PinaivuError


@dataclass(frozen=True, slots=True)
class OpenedVault:
    """The secret, and what the host keeps of it: it opens for this image and configuration only."""

    secret: bytes = field(repr=False)
    sealed: bytes


class Vault(Protocol):
    """Where the vault secret comes from. In production that is KMS (DESIGN section 7)."""

    async def open(self, configuration: Configuration, sealed: bytes) -> OpenedVault:
        """A new secret where `sealed` is empty, else the one it holds; VaultError when it cannot be had.

        `configuration` is already measured, so that what attests to it is attested by this enclave.
        """
        ...


class VaultError(PinaivuError):
    """No secret. The enclave stays unopened and alive; the host may try again once the cause is mended."""

    code = "vault"
