"""On Nitro only Amazon's roots vouch for KMS, elsewhere only the one that the measured configuration names."""

import hashlib
import ssl

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pinaivu_enclave.kms.roots import amazon_roots_pem, tls_context
from pinaivu_enclave.vault import VaultError
from pinaivu_shared.configuration import Configuration, Platform

from .authority import Authority
from .lab import TRUSTED, configuration

PUBLISHED_SHA256 = {  # Amazon Trust Services, "Root CAs": of the DER
    "Amazon Root CA 1": "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "Amazon Root CA 2": "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
    "Amazon Root CA 3": "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
    "Amazon Root CA 4": "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
}


def on(platform: Platform, root: str) -> Configuration:
    return msgspec.structs.replace(configuration(root=root), platform=platform)


def fingerprints(ders: list[bytes]) -> list[str]:
    return sorted(hashlib.sha256(der).hexdigest() for der in ders)


def test_the_roots_in_the_image_are_the_four_that_amazon_publishes() -> None:
    certificates = x509.load_pem_x509_certificates(amazon_roots_pem().encode())
    names = [certificate.subject.rfc4514_string().split(",")[0].removeprefix("CN=") for certificate in certificates]
    ders = [certificate.public_bytes(Encoding.DER) for certificate in certificates]
    assert {name: hashlib.sha256(der).hexdigest() for name, der in zip(names, ders, strict=True)} == PUBLISHED_SHA256


def test_nitro_trusts_these_and_nothing_else() -> None:
    trusted = tls_context(on("nitro", "")).get_ca_certs(binary_form=True)
    assert fingerprints(trusted) == sorted(PUBLISHED_SHA256.values())


@pytest.mark.parametrize("platform", ["simulator", "qemu"])
def test_other_platforms_trust_the_configured_root_and_nothing_else(platform: Platform) -> None:
    trusted = tls_context(on(platform, TRUSTED.root_hex)).get_ca_certs(binary_form=True)
    assert trusted == [bytes.fromhex(TRUSTED.root_hex)]


@pytest.mark.parametrize(
    ("platform", "root"),
    [
        ("nitro", TRUSTED.root_hex),
        ("simulator", ""),
        ("qemu", ""),
        ("simulator", "00"),
        ("simulator", TRUSTED.root_hex[:-2]),
        ("simulator", TRUSTED.root_hex + "00"),
        ("simulator", TRUSTED.root_hex * 2),
    ],
)
def test_a_root_that_does_not_fit_the_platform_gives_no_context(platform: Platform, root: str) -> None:
    with pytest.raises(VaultError, match=r"kms\.tls_root"):
        tls_context(on(platform, root))


def test_every_context_demands_a_certificate_for_the_host_name_and_tls_1_2() -> None:
    for context in (tls_context(on("nitro", "")), tls_context(configuration())):
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "name", [b"\x0c\x08evil\xff\xfe\xfd\xfc", b"\x1e\x08" + b"\xd8\x00" * 4], ids=["bad-utf-8", "surrogates"]
)
def test_a_root_that_openssl_does_not_take_costs_the_vault_and_not_the_enclave(name: bytes) -> None:
    """Pyca reads a certificate's name only when asked, OpenSSL at once; this one can be measured, and no more."""
    der = bytes.fromhex(Authority("evilevil").root_hex)
    assert b"\x0c\x08evilevil" in der
    with pytest.raises(VaultError, match="tls_root is no"):
        tls_context(on("qemu", der.replace(b"\x0c\x08evilevil", name).hex()))
