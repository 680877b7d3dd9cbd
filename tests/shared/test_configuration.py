"""The configuration: people write it in any layout, the enclave is given and measures one spelling."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pinaivu_shared.configuration import canonical_configuration, parse_configuration
from pinaivu_shared.errors import VerificationError
from pinaivu_simulator.market import market_configuration

RAW = market_configuration("configuration.test/log", ["m"])


def test_any_layout_gives_the_same_bytes() -> None:
    value = json.loads(RAW)
    pretty = json.dumps(dict(reversed(value.items())), indent=4).encode()
    assert pretty != RAW
    assert canonical_configuration(pretty) == canonical_configuration(RAW) == RAW


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"debug": True}, "debug"),
        ({"platform": "nitro"}, "tls_root"),
        ({"fee_bps": 10_001}, "fee_bps"),
        ({"fee_bps": 5.0}, "fee_bps"),
        ({"kms": {"key_arn": "arn:aws:kms:local-1:000000000000:key/*", "tls_root": "00"}}, "key_arn"),
        ({"kms": {"key_arn": "arn:aws:kms:local-1:000000000000:alias/x", "tls_root": "00"}}, "key_arn"),
        ({"kms": {"key_arn": "arn:aws-cn:kms:local-1:000000000000:key/x", "tls_root": "00"}}, "key_arn"),
        ({"witnesses": ["w"]}, "witnesses"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        canonical_configuration(json.dumps({**json.loads(RAW), **change}).encode())


@pytest.mark.parametrize("length", [None, 0, 10_000_001, 4096.0])
def test_a_model_has_a_context_that_somebody_decided_on(length: object) -> None:
    configuration = json.loads(RAW)
    (model,) = configuration["models"]
    del model["context_length_max"]
    if length is not None:
        model["context_length_max"] = length
    with pytest.raises(VerificationError, match="context_length_max"):
        canonical_configuration(json.dumps(configuration).encode())


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(VerificationError, match="twice"):
        canonical_configuration(RAW.replace(b'"fee_bps":500', b'"fee_bps":500,"fee_bps":501'))


@given(st.binary())
@example(b"[" * 50_000)
@example(b"9" * 5_000)
@example(b" " * 60_001)
@example(b'"\\ud800"')
def test_any_bytes_are_a_configuration_or_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError):
        canonical_configuration(raw)
    with pytest.raises(VerificationError):
        parse_configuration(raw)
