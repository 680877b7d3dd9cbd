"""The vault secret: 32 bytes that survive a restart, from which the checkpoint and settlement keys are derived."""

from typing import Protocol


class Vault(Protocol):
    """Where the vault secret comes from. In production that is KMS (DESIGN section 7); it may block and may fail."""

    def secret(self) -> bytes:
        """The 32 bytes: created at genesis, recovered after."""
        ...


class VaultError(Exception):
    """The vault gave no secret; the enclave cannot start."""
