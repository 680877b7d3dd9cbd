"""The vault at boot: opened after the configuration was measured, once, and before any leaf is looked at."""

import pytest
from tests.enclave.market import MODEL, ORIGIN, START_MS, FixedVault, at_once, make_platform

from pinaivu_enclave.boot import Boot
from pinaivu_enclave.core.commands import IllegalCommandError
from pinaivu_enclave.vault import OpenedVault, VaultError
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.market import market_configuration

RAW = market_configuration(ORIGIN, [MODEL])


class CountingVault(FixedVault):
    """Another secret each time it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def open(self, configuration: Configuration, sealed: bytes) -> OpenedVault:
        self.asked.append(sealed)
        return OpenedVault(bytes([len(self.asked)]) * 32, sealed or b"sealed now")


class ClosedVault(FixedVault):
    """A vault that cannot be opened today."""

    async def open(self, configuration: Configuration, sealed: bytes) -> OpenedVault:
        raise VaultError("KMS is away")


def configured(vault: FixedVault) -> Boot:
    boot = Boot(make_platform(lambda: START_MS, vault=vault))
    boot.configure(RAW)
    return boot


def test_no_vault_is_opened_before_the_configuration_is_measured() -> None:
    vault = CountingVault()
    with pytest.raises(IllegalCommandError, match="before Configure"):
        at_once(Boot(make_platform(lambda: START_MS, vault=vault)).open_vault(b""))
    assert vault.asked == []


def test_no_leaf_is_looked_at_before_the_vault_is_open() -> None:
    boot = configured(CountingVault())
    with pytest.raises(IllegalCommandError, match="before OpenVault"):
        boot.resume((b"leaf",))
    with pytest.raises(IllegalCommandError, match="before OpenVault"):
        boot.finish("", "0" * 32)


def test_a_host_that_missed_the_answer_gets_the_same_vault_again() -> None:
    vault = CountingVault()
    boot = configured(vault)
    first = at_once(boot.open_vault(b""))
    boot.configure(RAW)
    assert at_once(boot.open_vault(b"")) == at_once(boot.open_vault(first)) == first
    assert vault.asked == [b""]


def test_another_vault_cannot_follow_an_open_one() -> None:
    boot = configured(CountingVault())
    at_once(boot.open_vault(b"mine"))
    with pytest.raises(IllegalCommandError, match="another vault"):
        at_once(boot.open_vault(b"another"))


def test_an_enclave_without_its_vault_stays_unopened_and_can_be_asked_again() -> None:
    boot = configured(ClosedVault())
    for _ in range(2):
        with pytest.raises(VaultError, match="away"):
            at_once(boot.open_vault(b""))
    with pytest.raises(IllegalCommandError, match="before OpenVault"):
        boot.finish("", "0" * 32)


def test_a_log_of_another_vault_secret_is_not_resumed() -> None:
    """A host that asks for a new secret beside an old log gets a key under which that log is not known."""
    earlier = configured(FixedVault())
    at_once(earlier.open_vault(b""))
    _, effects = earlier.finish("", "0" * 32)
    later = configured(CountingVault())
    at_once(later.open_vault(b""))
    with pytest.raises(VerificationError, match="another vault secret"):
        later.resume(tuple(effect.leaf for effect in effects))  # type: ignore[union-attr]  # only leaves at genesis


def test_the_secret_is_not_shown() -> None:
    assert "\\x01" not in repr(OpenedVault(b"\x01" * 32, b"sealed"))


def test_a_log_begins_with_a_vault_that_was_made_for_it() -> None:
    """Before the policy is on it, the key's owner could seal a secret of his own, and know the log's keys for ever."""
    boot = configured(CountingVault())
    at_once(boot.open_vault(b"sealed by the operator"))
    with pytest.raises(IllegalCommandError, match="vault made for it"):
        boot.finish("", "0" * 32)


def test_a_log_that_exists_goes_on_with_its_sealed_vault() -> None:
    first = configured(FixedVault())
    sealed = at_once(first.open_vault(b""))
    _, effects = first.finish("", "0" * 32)
    later = configured(FixedVault())
    at_once(later.open_vault(sealed))
    later.resume(tuple(effect.leaf for effect in effects))  # type: ignore[union-attr]  # only leaves at genesis
    later.finish("", "0" * 32)
