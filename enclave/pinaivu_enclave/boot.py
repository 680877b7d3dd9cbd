"""Boot: from an unconfigured enclave to a serving coordinator. The host drives it, and can do nothing else until then.

Configure measures the configuration into PCR16 and locks it. OpenVault recovers the vault secret, or has one made at
genesis, and makes the epoch's keys. Resume hands over the stored leaves. FinishResume has the keys attested and
writes the epoch into the log.
"""

import base64
import hashlib
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pinaivu_enclave.core.commands import Effect, IllegalCommandError
from pinaivu_enclave.core.coordinator import Coordinator
from pinaivu_enclave.core.journal import Journal
from pinaivu_enclave.core.keys import EpochKeys, derive_signing_key
from pinaivu_enclave.core.resume import Resumption
from pinaivu_enclave.nsm import NsmDevice
from pinaivu_enclave.vault import OpenedVault, Vault
from pinaivu_shared.attestation.document import MAX_PCRS
from pinaivu_shared.attestation.policy import CONFIGURATION_PCR, IMAGE_PCRS, MeasurementPolicy
from pinaivu_shared.canonical import encode
from pinaivu_shared.configuration import Configuration, Platform, parse_configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.ids import digest_of
from pinaivu_shared.leaves import ConfigurationLeaf, EpochLeaf, sign_leaf
from pinaivu_shared.manifest import KeyManifest
from pinaivu_shared.wire import link


class EnclavePlatform:
    """What the enclave stands on: its security module, that module's trust root, and its vault.

    `names` are the platforms a configuration may name. A measured image cannot tell Nitro from QEMU, whose module
    looks the same; but only Nitro's documents verify under `root`, so what runs on QEMU convinces nobody.
    """

    def __init__(self, *, names: frozenset[Platform], nsm: NsmDevice, root: x509.Certificate, vault: Vault) -> None:
        self.names, self.nsm, self.root, self.vault = names, nsm, root, vault

    def own_measurements(self) -> MeasurementPolicy:
        """A policy that allows exactly this image."""
        return MeasurementPolicy.exactly({index: self.nsm.describe_pcr(index)[1] for index in IMAGE_PCRS})


class ServingEpoch:
    """A booted enclave: the coordinator, and what `Attest` needs to answer."""

    def __init__(self, coordinator: Coordinator, keys: EpochKeys, manifest: bytes, configuration: bytes) -> None:
        self.coordinator = coordinator
        self.manifest, self.configuration = manifest, configuration
        self._receipt_spki = keys.receipt_spki()
        self._user_data = hashlib.sha256(manifest).digest()

    def attest(self, nsm: NsmDevice, nonce: bytes) -> link.Attestation:
        """A fresh document of this epoch over the asker's nonce. Blocks on the module."""
        document = nsm.attest(public_key=self._receipt_spki, user_data=self._user_data, nonce=nonce)
        return link.Attestation(document, self.manifest, self.configuration)


class Boot:
    """An enclave that does not serve yet."""

    def __init__(self, platform: EnclavePlatform) -> None:
        self._platform = platform
        self._raw = b""
        self._policy: MeasurementPolicy | None = None
        self._vault: OpenedVault | None = None
        self._vault_is_new = False
        self._keys: EpochKeys | None = None
        self._resumption: Resumption | None = None

    @property
    def phase(self) -> Literal["unconfigured", "resuming"]:
        """`unconfigured` or `resuming`, as `wire.link_boot.Introduction` says it."""
        return "resuming" if self._raw else "unconfigured"

    def configure(self, raw: bytes) -> None:
        """Measure the configuration, once. A second, equal one starts the resumption over. Blocks on the module."""
        configuration = parse_configuration(raw)
        if configuration.platform not in self._platform.names:
            raise VerificationError("platform", f"this enclave runs on {' or '.join(sorted(self._platform.names))}")
        if self._raw not in {b"", raw}:
            raise IllegalCommandError("another configuration is measured already: start a new enclave")
        if not self._raw:
            self._measure(raw)
        self._raw, self._resumption = raw, None
        self._policy = self._platform.own_measurements()

    async def open_vault(self, sealed: bytes) -> bytes:
        """Have the vault opened, or made where `sealed` is empty; what the host is to keep of it.

        A host that did not hear the answer asks again and gets the same one. VaultError when there is no secret.
        """
        if self._policy is None:
            raise IllegalCommandError("OpenVault before Configure")
        configuration = parse_configuration(self._raw)
        if self._vault is None:
            self._vault = await self._platform.vault.open(configuration, sealed)
            self._vault_is_new = not sealed
            self._keys = _make_keys(self._vault.secret)
        elif sealed not in {b"", self._vault.sealed}:
            raise IllegalCommandError("another vault is open already: start a new enclave")
        assert self._keys is not None
        self._resumption = Resumption(
            root=self._platform.root, policy=self._policy, log_key=self._keys.log_key(configuration.origin)
        )
        return self._vault.sealed

    def resume(self, leaves: tuple[bytes, ...]) -> None:
        """Take the next stored leaves."""
        if self._resumption is None:
            raise IllegalCommandError("Resume before OpenVault")
        for leaf in leaves:
            self._resumption.take(leaf)

    def finish(self, checkpoint: str, instance: str) -> tuple[ServingEpoch, list[Effect]]:
        """Enter the next epoch, driven by host `instance`: its coordinator, and the leaves that say so."""
        if self._resumption is None or self._keys is None:
            raise IllegalCommandError("FinishResume before OpenVault")
        if not self._resumption.size and not self._vault_is_new:
            # Whoever owns the key could have sealed a secret of his own before its policy was put on it.
            raise IllegalCommandError("a log begins with a vault made for it: OpenVault without a sealed one")
        tree, state, keys = self._resumption.finish(checkpoint), self._resumption.state, self._keys
        configuration = parse_configuration(self._raw)
        manifest = keys.manifest(origin=configuration.origin, epoch=state.epoch + 1, configuration=digest_of(self._raw))
        document = self._platform.nsm.attest(public_key=keys.receipt_spki(), user_data=manifest.user_data(), nonce=None)
        journal = Journal(configuration.origin, keys.checkpoint, tree)
        changed = state.configuration != configuration
        leaves = _epoch_leaves(journal.size, document, manifest, configuration if changed else None)
        effects: list[Effect] = []
        for leaf in leaves:
            state.fold(leaf)
            effects.append(journal.append(sign_leaf(leaf, keys.receipt)))
        coordinator = Coordinator(
            configuration=configuration,
            keys=keys,
            attestation=digest_of(document),
            state=state,
            journal=journal,
            instance=instance,
        )
        return ServingEpoch(coordinator, keys, encode(manifest), self._raw), effects

    def _measure(self, raw: bytes) -> None:
        nsm = self._platform.nsm
        nsm.extend_pcr(CONFIGURATION_PCR, hashlib.sha384(raw).digest())
        nsm.lock_pcrs(MAX_PCRS)


def _make_keys(secret: bytes) -> EpochKeys:
    return EpochKeys(
        receipt=ec.generate_private_key(ec.SECP256R1()),
        sealing=X25519PrivateKey.generate(),
        checkpoint=derive_signing_key(secret, "checkpoint"),
        settlement=derive_signing_key(secret, "settlement"),
    )


def _epoch_leaves(
    index: int, document: bytes, manifest: KeyManifest, changed: Configuration | None
) -> list[EpochLeaf | ConfigurationLeaf]:
    attestation = base64.b64encode(document).decode()
    leaves: list[EpochLeaf | ConfigurationLeaf] = [
        EpochLeaf(index=index, attestation=attestation, manifest=manifest, coordinator_signature="")
    ]
    if changed is not None:
        leaves.append(ConfigurationLeaf(index=index + 1, configuration=changed, coordinator_signature=""))
    return leaves
