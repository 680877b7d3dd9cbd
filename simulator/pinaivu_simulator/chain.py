"""The certificates above and of one simulated enclave, renewed when Nitro renews them.

A leaf lives for three hours, serves many documents, and is replaced 15 minutes before its end, not backdated.
An authority is replaced as soon as it could not outlive a fresh leaf, together with everything below it.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final

from pinaivu_simulator.pki import (
    INSTANCE,
    LEAF,
    PARTITION,
    REGION,
    REGIONAL,
    ZONAL,
    Authority,
    CertificateProfile,
    Entropy,
    SimulatedPki,
    issue,
    new_key,
    new_serial,
    subject,
)

RENEWAL_BEFORE_END: Final = dt.timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class EnclaveName:
    """Names as Nitro gives them: `i-<17 hex>` for the instance, and -enc<16 hex> that starts with the boot time."""

    instance: str
    enclave: int

    @classmethod
    def draw(cls, *, now_ms: int, entropy: Entropy) -> "EnclaveName":
        """Random names for an enclave that starts now."""
        enclave = now_ms << 16 | int.from_bytes(entropy(2), "big")
        return cls(instance=f"i-0{entropy(8).hex()}", enclave=enclave)

    @property
    def module_id(self) -> str:
        """The document's `module_id`."""
        return f"{self.instance}-enc{self.enclave:016x}"


class EnclaveChain:
    """Leaf and authorities of one enclave; `current` renews what is about to end."""

    def __init__(self, pki: SimulatedPki, name: EnclaveName, entropy: Entropy) -> None:
        self._pki, self._name, self._entropy = pki, name, entropy
        self._authorities: list[Authority] = []  # regional, zonal, instance
        self._leaf: Authority | None = None

    def current(self, now: dt.datetime) -> tuple[Authority, tuple[bytes, ...]]:
        """The leaf to sign with now, and the cabundle above it: four DER certificates, root first."""
        leaf = self._leaf
        if leaf is None or not _holds(leaf, now, RENEWAL_BEFORE_END):
            self._renew_authorities(now)
            leaf = self._leaf = self._issue_leaf(now)
        return leaf, (self._pki.root.der, *(authority.der for authority in self._authorities))

    def _renew_authorities(self, now: dt.datetime) -> None:
        usable = 0
        while usable < len(self._authorities) and _holds(self._authorities[usable], now, LEAF.lifetime):
            usable += 1
        del self._authorities[usable:]
        for profile, common_name in self._levels()[usable:]:
            issuer = self._authorities[-1] if self._authorities else self._pki.root
            self._authorities.append(self._issue(profile, common_name, issuer, now))

    def _levels(self) -> list[tuple[CertificateProfile, str]]:
        parent = f"{REGION}.{PARTITION}.nitro-enclaves"
        return [
            (REGIONAL, f"{self._entropy(8).hex()}.{parent}"),
            (ZONAL, f"{self._entropy(8).hex()}.zonal.{parent}"),
            (INSTANCE, f"{self._name.instance}.{parent}"),
        ]

    def _issue(self, profile: CertificateProfile, name: str, issuer: Authority, now: dt.datetime) -> Authority:
        key, serial = new_key(self._entropy), new_serial(self._entropy)
        return issue(profile, subject(name), key, issuer=issuer, now=now, serial=serial)

    def _issue_leaf(self, now: dt.datetime) -> Authority:
        name = subject(f"{self._name.module_id}.{REGION}.{PARTITION}")
        serial = self._name.enclave << 64 | int(now.timestamp())  # as in genuine leaves
        return issue(LEAF, name, new_key(self._entropy), issuer=self._authorities[-1], now=now, serial=serial)


def _holds(authority: Authority, now: dt.datetime, at_least: dt.timedelta) -> bool:
    certificate = authority.certificate
    return certificate.not_valid_before_utc <= now and now + at_least <= certificate.not_valid_after_utc
