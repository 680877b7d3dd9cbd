"""The simulated vault: the secret lies in a file beside the simulated platform's root key. It protects nothing."""

import os
import secrets
from pathlib import Path
from typing import Final

from pinaivu_enclave.core.keys import VAULT_SECRET_BYTES
from pinaivu_enclave.vault import OpenedVault, VaultError
from pinaivu_shared.configuration import Configuration

SECRET_FILE: Final = "vault.secret"  # noqa: S105 - a file name


class FileVault:
    """Implements `pinaivu_enclave.vault.Vault` with a file in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SECRET_FILE

    async def open(self, configuration: Configuration, sealed: bytes) -> OpenedVault:  # noqa: ARG002 - a Vault
        """See `Vault`: the same secret for everybody."""
        return OpenedVault(self.secret(), b"simulated")

    def secret(self) -> bytes:
        """The secret, made at first use; VaultError when the file is not one of ours."""
        try:
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(VAULT_SECRET_BYTES))
        except FileExistsError:
            pass
        secret = self._path.read_bytes()
        if len(secret) != VAULT_SECRET_BYTES:
            raise VaultError(f"{self._path.name} has {len(secret)} bytes instead of {VAULT_SECRET_BYTES}")
        return secret
