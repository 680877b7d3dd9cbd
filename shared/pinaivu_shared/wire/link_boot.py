"""Booting an enclave over the link: its host drives, in the order of the commands here.

Introduce, Configure, OpenVault, Resume (until all leaves are there), FinishResume.
"""

from typing import Annotated, Final, Literal

import msgspec

from pinaivu_shared.wire.link_message import LinkMessage

RESUME_BATCH_BYTES: Final = 512 * 1024
MAX_SEALED_VAULT_BYTES: Final = 6144
"""KMS: a CiphertextBlob has no more."""

Instance = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]


class Introduce(LinkMessage, frozen=True):
    """Host: this is host process `instance`. Jobs and sessions of any other instance end."""

    instance: Instance
    protocol: int


class Introduction(LinkMessage, frozen=True):
    """Enclave: how far it has booted, how many leaves exist and how many of them were acknowledged as durable.

    While "serving", leaves from `durable` on are pushed again right after this answer.
    """

    phase: Literal["unconfigured", "resuming", "serving"]
    size: int
    durable: int


class Configure(LinkMessage, frozen=True):
    """Host: the configuration's canonical bytes. Measured once; a second one must be equal."""

    configuration: bytes


class OpenVault(LinkMessage, frozen=True):
    """Host: the sealed vault secret as it was stored; empty at genesis, for which KMS makes a new one."""

    sealed: Annotated[bytes, msgspec.Meta(max_length=MAX_SEALED_VAULT_BYTES)]


class VaultOpened(LinkMessage, frozen=True):
    """Enclave: the vault is open. Store `sealed` durably before FinishResume: without it the log cannot go on."""

    sealed: bytes


class Resume(LinkMessage, frozen=True):
    """Host: stored leaves in order, a batch of at most RESUME_BATCH_BYTES."""

    leaves: tuple[bytes, ...]


class FinishResume(LinkMessage, frozen=True):
    """Host: that were all. `checkpoint` is the last one signed, empty at genesis. Starts a new epoch."""

    checkpoint: str
