"""HTTPS by flags: answers, WebSockets of nodes, new certificates while old connections go on."""

import datetime as dt
import ipaddress
import logging
import signal
import ssl
from pathlib import Path

import anyio
import httpx
import pytest
import trio
from anyio.streams.tls import TLSAttribute
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from tests.host.fake_enclave import FakeEnclave
from tests.host.program import enclave, free_port, served
from tests.host.town import Town, request

from pinaivu_host.certificate import ServerCertificate
from pinaivu_host.edge import EdgeSettings, read_certificate
from pinaivu_node.connection import ConnectionLostError, open_connection
from pinaivu_shared.errors import CallerError
from pinaivu_shared.wire.node import NODE_PATH, NODE_PROTOCOL, Hello

__all__ = ["enclave"]
pytestmark = pytest.mark.anyio


class Authority:
    """A certificate authority of one's own: a file with its certificate, and pairs for this machine's servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority of the tests")
        self.file = self.folder / "authority.pem"
        basic = x509.BasicConstraints(ca=True, path_length=0)
        built = _builder(self._name, self._name, self._key).add_extension(basic, critical=True)
        usage = x509.KeyUsage(
            *(False,) * 5, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
        )
        built = built.add_extension(usage, critical=True).add_extension(self._identifier(), critical=False)
        self.file.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def _identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def issue(self, name: str, *, passphrase: bytes = b"") -> tuple[Path, Path]:
        """A pair under this name in the folder, over what was there; its serial number is new."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier())
        built = _builder(_name("localhost"), self._name, key)
        built = built.add_extension(names, critical=False).add_extension(issuer, critical=False)
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        hidden: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        return certificate, key_file


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "pki").mkdir()
    return Authority(tmp_path / "pki")


async def secured(town: Town, authority: Authority) -> ServerCertificate:
    certificate = ServerCertificate(*authority.issue("server"))
    town.edge = EdgeSettings(certificate=certificate)
    await town.open()
    return certificate


async def serial_shown(port: int, trusted: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection is shown; the client names no server."""
    stream = await anyio.connect_tcp("127.0.0.1", port, ssl_context=trusted, tls_standard_compatible=False)
    async with stream:
        shown = stream.extra(TLSAttribute.peer_certificate_binary)  # noqa: S610 - not Django's
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number


def serial_of(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


async def test_answers_come_over_tls_and_only_so(openable: Town, authority: Authority) -> None:
    await secured(openable, authority)
    trusted = ssl.create_default_context(cafile=authority.file)
    headers = {"authorization": f"Bearer {openable.key}"}
    async with httpx.AsyncClient(verify=trusted, trust_env=False, headers=headers) as client:
        answer = await client.get(f"https://localhost:{openable.port}/v1/models")
        assert answer.json() == {"object": "list", "data": []}
        answer = await client.post(f"https://127.0.0.1:{openable.port}/v1/chat/completions", json=request())
        assert answer.json()["error"]["code"] == "no_node_available"
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://localhost:{openable.port}/v1/models")


async def test_tls_before_1_2_is_not_spoken(openable: Town, authority: Authority) -> None:
    await secured(openable, authority)
    old = ssl.create_default_context(cafile=authority.file)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream)):
        await serial_shown(openable.port, old)


async def test_a_nodes_own_client_dials_in_over_wss(
    openable: Town, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    await secured(openable, authority)
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    url = f"wss://localhost:{openable.port}{NODE_PATH}"

    async def greet() -> str:
        async with open_connection(url) as gateway:
            await gateway.send(Hello(NODE_PROTOCOL, key.public_bytes_raw(), bytes(32), "of the tests"))
            return repr(await gateway.receive())

    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # as a node with an authority of its own is started
    assert (await anyio.to_thread.run_sync(trio.run, greet)).startswith("Welcome(")


async def test_a_node_says_what_is_wrong_with_a_certificate(openable: Town, authority: Authority) -> None:
    await secured(openable, authority)

    async def greet() -> None:
        async with open_connection(f"wss://localhost:{openable.port}{NODE_PATH}"):
            pass

    said = "TLS certificate that is not trusted: unable to get local issuer certificate"
    with pytest.RaisesGroup(pytest.RaisesExc(ConnectionLostError, match=said)):
        await anyio.to_thread.run_sync(trio.run, greet)


async def test_a_new_pair_is_shown_to_new_connections_and_old_ones_go_on(
    openable: Town, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = await secured(openable, authority)
    trusted = ssl.create_default_context(cafile=authority.file)
    url = f"https://localhost:{openable.port}/healthz"
    async with httpx.AsyncClient(verify=trusted, trust_env=False, limits=httpx.Limits(max_connections=1)) as client:
        assert (await client.get(url)).status_code == 200
        first = await serial_shown(openable.port, trusted)
        file, key = authority.issue("server")
        assert await serial_shown(openable.port, trusted) == first, "nobody has said to read again"
        certificate.read_again()
        second = serial_of(file)
        assert await serial_shown(openable.port, trusted) == second != first
        key.write_bytes(authority.issue("other")[1].read_bytes())
        with caplog.at_level(logging.ERROR, "pinaivu_host"):
            certificate.read_again()
        (kept,) = [record for record in caplog.records if record.getMessage() == "kept the old certificate"]
        assert "is not the key of" in vars(kept)["kv"]["reason"]
        assert await serial_shown(openable.port, trusted) == second
        assert (await client.get(url)).status_code == 200


async def test_the_command_serves_https_and_hangup_has_the_certificate_read_again(
    tmp_path: Path, enclave: FakeEnclave, authority: Authority
) -> None:
    file, key = authority.issue("server")
    trusted = ssl.create_default_context(cafile=authority.file)
    port = free_port()
    pair = ("--tls-certificate", str(file), "--tls-key", str(key))
    async with served(tmp_path, port, *pair, trusted=trusted) as process:
        assert await serial_shown(port, trusted) == serial_of(file)
        authority.issue("server")
        process.send_signal(signal.SIGHUP)
        while await serial_shown(port, trusted) != serial_of(file):
            assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


def test_what_is_no_pair_is_refused_by_the_name_of_its_file_and_never_shown(authority: Authority) -> None:
    certificate, key = authority.issue("server")
    _, other = authority.issue("other")
    _, encrypted = authority.issue("encrypted", passphrase=b"passphrase")
    nothing, missing = authority.folder / "nothing.pem", authority.folder / "missing.pem"
    secret = "c2VjcmV0LW9mLXRoZS1rZXk"
    nothing.write_text(f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n")
    for pair, said in (
        ((certificate, missing), f"--tls-key {missing}: No such file or directory"),
        ((missing, key), f"--tls-certificate {missing}: No such file or directory"),
        ((certificate.parent, key), f"--tls-certificate {certificate.parent}: Is a directory"),
        ((certificate, other), f"--tls-key {other} is not the key of --tls-certificate {certificate}"),
        ((key, key), f"--tls-certificate {key} has no certificate in PEM"),
        ((certificate, nothing), f"--tls-key {nothing} has no private key in PEM that serves"),
        ((certificate, certificate), f"--tls-key {certificate} has no private key in PEM that serves"),
        ((certificate, encrypted), f"--tls-key {encrypted} is encrypted"),
    ):
        with pytest.raises(CallerError) as refused:
            read_certificate(*map(str, pair))
        assert str(refused.value).startswith(said)
        assert secret not in str(refused.value)
    for one in ((str(certificate), ""), ("", str(key))):
        with pytest.raises(CallerError, match="give both"):
            read_certificate(*one)
    assert read_certificate("", "") is None
