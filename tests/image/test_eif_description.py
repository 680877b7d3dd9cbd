"""What `nitro-cli describe-eif` prints, for scripts that read it: same keys, same order, same spelling."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.image.images import METADATA, NOW, certificate_of, image, key_pem, with_crc

from pinaivu_image.signing import sign_image
from pinaivu_shared.eif.description import describe
from pinaivu_shared.eif.errors import EifError
from pinaivu_shared.eif.format import parse_eif, write_eif
from pinaivu_shared.eif.measurements import measure
from pinaivu_shared.eif.metadata import encode_metadata, parse_metadata

KEY = ec.derive_private_key(77, ec.SECP384R1())
CERTIFICATE = certificate_of(KEY)
SIGNED = sign_image(parse_eif(image()), key_pem=key_pem(KEY), certificate_pem=CERTIFICATE, now=NOW)


def test_an_unsigned_image_has_these_keys_in_this_order() -> None:
    described = describe(parse_eif(image()))
    assert list(described) == [
        "EifVersion",
        "Measurements",
        "IsSigned",
        "CheckCRC",
        "ImageName",
        "ImageVersion",
        "Metadata",
    ]
    assert list(described["Measurements"]) == ["HashAlgorithm", "PCR0", "PCR1", "PCR2"]
    assert described["Measurements"]["HashAlgorithm"] == "Sha384 { ... }"
    assert (described["EifVersion"], described["IsSigned"], described["CheckCRC"]) == (4, False, True)
    assert (described["ImageName"], described["ImageVersion"]) == ("pinaivu", "1.2")


def test_custom_metadata_is_merged_behind_the_others() -> None:
    assert list(describe(parse_eif(image()))["Metadata"]) == [
        "BuildTime",
        "BuildTool",
        "BuildToolVersion",
        "OperatingSystem",
        "KernelVersion",
        "DockerInfo",
        "Commit",
    ]


def test_a_signed_image_shows_its_certificate_between_issigned_and_checkcrc() -> None:
    described = describe(SIGNED)
    assert list(described)[2:6] == ["IsSigned", "SigningCertificate", "CheckCRC", "SignatureCheck"]
    assert (described["IsSigned"], described["SignatureCheck"]) == (True, True)
    assert list(described["Measurements"])[-1] == "PCR8"
    pcr8 = measure(SIGNED).pcr8
    assert pcr8 is not None
    assert described["Measurements"]["PCR8"] == pcr8.hex()
    certificate = described["SigningCertificate"]
    assert list(certificate) == ["IssuerName", "Algorithm", "NotBefore", "NotAfter", "Signature"]
    assert certificate["IssuerName"] == {"commonName": "Pinaivu", "countryName": "IN"}
    assert (certificate["Algorithm"], certificate["NotBefore"]) == ("ecdsa-with-SHA384", "May 31 12:00:00 2026 GMT")


def test_openssl_spells_the_certificates_dates_and_signature_so(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to check against")
    (tmp_path / "certificate").write_bytes(CERTIFICATE)
    command = "openssl x509 -in certificate -noout -dates -text"
    ended = subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path, env=os.environ)
    text, described = ended.stdout.decode(), describe(SIGNED)["SigningCertificate"]
    assert f"notBefore={described['NotBefore']}" in text
    assert f"notAfter={described['NotAfter']}" in text
    assert f"Signature Algorithm: {described['Algorithm']}" in text
    assert "".join(text.rpartition("Signature Value:")[2].split()).startswith(described["Signature"].lower())


def test_a_signature_that_does_not_hold_is_said_not_hidden() -> None:
    section = SIGNED.sections[-1].data
    other = parse_eif(image(kernel=b"another kernel", signature=section))
    assert describe(other)["SignatureCheck"] is False


def test_an_image_without_metadata_says_nothing_of_it() -> None:
    eif = parse_eif(image())
    sections = tuple(section for section in eif.sections if section.type.name != "METADATA")
    described = describe(replace(eif, sections=sections))
    assert list(described) == ["EifVersion", "Measurements", "IsSigned", "CheckCRC"]


GOOD = json.loads(encode_metadata(METADATA))


def without(*path: str) -> Any:
    content = json.loads(json.dumps(GOOD))
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return content


MALFORMED: list[tuple[str, bytes]] = [
    ("no JSON", b"{"),
    ("not UTF-8", encode_metadata(METADATA).replace(b"pinaivu", b"\xff")),
    ("deeply nested", b"[" * 100_000),
    ("custom metadata that cannot be merged", json.dumps({**GOOD, "CustomMetadata": [1]}).encode()),
    ("a number for a name", json.dumps({**GOOD, "ImageName": 5}).encode()),
    *((f"without {name}", json.dumps(without(name)).encode()) for name in GOOD),
    *(
        (f"without BuildMetadata.{name}", json.dumps(without("BuildMetadata", name)).encode())
        for name in GOOD["BuildMetadata"]
    ),
    ("a mebibyte and more", encode_metadata(METADATA) + b" " * (1 << 20)),
]


@pytest.mark.parametrize("section", [case[1] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_metadata_that_describe_eif_would_refuse_is_unreadable(section: bytes) -> None:
    raw = write_eif(kernel=b"k", cmdline=b"c", metadata=section, ramdisks=(b"r",))
    with pytest.raises(EifError) as refused:
        describe(parse_eif(raw))
    assert refused.value.part == "metadata section"


def test_other_keys_and_any_json_as_docker_info_are_read() -> None:
    section = json.dumps({**GOOD, "DockerInfo": [1, {"a": None}], "More": 1}).encode()
    assert parse_metadata(section).docker_info == [1, {"a": None}]


def test_metadata_is_written_as_awss_builder_does() -> None:
    assert encode_metadata(METADATA).startswith(b'{"ImageName":"pinaivu","ImageVersion":"1.2","BuildMetadata":{"Bui')
    assert parse_metadata(encode_metadata(METADATA)) == METADATA


@given(st.binary(max_size=60) | st.integers(0, 300).flatmap(lambda at: st.just(encode_metadata(METADATA)[:at])))
def test_any_bytes_give_metadata_or_an_eif_error(section: bytes) -> None:
    with pytest.raises(EifError):
        parse_metadata(section)


def test_each_changed_byte_of_metadata_is_read_or_an_eif_error() -> None:
    good, read = encode_metadata(METADATA), 0
    for place in range(len(good)):
        for byte in (0x00, 0x22, 0x5B, 0x7B, 0xFF):
            try:
                parse_metadata(good[:place] + bytes([byte]) + good[place + 1 :])
                read += 1
            except EifError:
                continue
    assert 0 < read < 5 * len(good)


def test_the_version_of_an_old_image_is_shown() -> None:
    assert describe(parse_eif(with_crc(image().replace(b".eif\0\4", b".eif\0\3", 1))))["EifVersion"] == 3
