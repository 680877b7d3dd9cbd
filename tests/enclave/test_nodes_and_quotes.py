"""Registration answers a challenge; a quote is signed, sealed, of its session, and in order."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from pinaivu_enclave.core.commands import IllegalCommandError, IssueChallenge, RefusedQuoteError, UnknownSubjectError
from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.errors import VerificationError
from pinaivu_shared.leaves import RegistrationLeaf, parse_leaf
from pinaivu_shared.sealing import seal
from pinaivu_shared.second_score import Transcript, verify_transcript
from pinaivu_shared.signed import load_receipt_key, sign_ed25519, verify_enclave
from pinaivu_shared.terms import FleetGrant, QuoteAcknowledgement
from pinaivu_shared.wire import link

from .market import Market, Node, grant


def challenged(market: Market, node: Node) -> link.ChallengeIssued:
    issued: link.ChallengeIssued = market.apply(IssueChallenge(node.public_key, market.random.randbytes(48)))
    node.session = issued.session
    return issued


def test_a_new_node_is_written_into_the_log_once(market: Market) -> None:
    node = Node(market, "a").register()
    Node(market, "a").register()
    found = [leaf for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, RegistrationLeaf)]
    assert [(leaf.node_id, leaf.public_key) for leaf in found] == [(node.node_id, node.public_key.hex())]


def test_a_node_that_changes_its_operator_is_written_again(market: Market) -> None:
    Node(market, "a").register()
    Node(market, "a", operator="new-owner").register()
    found = [leaf.operator for leaf in map(parse_leaf, market.leaves) if isinstance(leaf, RegistrationLeaf)]
    assert [operator.partition("@")[0] for operator in found] == ["operator-a", "new-owner"]


@pytest.mark.parametrize(
    "change",
    [{"challenge": "ab" * 32}, {"session": "ses_" + "f" * 32}, {"public_key": "cd" * 32}],
    ids=lambda change: next(iter(change)),
)
def test_an_answer_to_another_challenge_is_refused(market: Market, change: dict[str, str]) -> None:
    node = Node(market, "a")
    issued = challenged(market, node)
    with pytest.raises(VerificationError, match="registration"):
        market.apply(link.RegisterNode(node.session, node.registration(issued, **change)))


def test_an_answer_signed_by_another_key_is_refused(market: Market) -> None:
    node, thief = Node(market, "a"), Node(market, "b")
    issued = challenged(market, node)
    stolen = thief.registration(issued, public_key=node.public_key.hex())
    with pytest.raises(VerificationError, match="registration signature"):
        market.apply(link.RegisterNode(node.session, stolen))


def test_a_challenge_is_good_for_one_answer_and_one_minute(market: Market) -> None:
    node = Node(market, "a")
    issued = challenged(market, node)
    registration = link.RegisterNode(node.session, node.registration(issued))
    market.apply(registration)
    with pytest.raises(IllegalCommandError):
        market.apply(registration)
    late = challenged(market, node)
    market.now_ms += 60_001
    with pytest.raises(IllegalCommandError):
        market.apply(link.RegisterNode(late.session, node.registration(late)))


def test_a_key_of_small_order_cannot_register(market: Market) -> None:
    with pytest.raises(VerificationError, match="node key"):
        market.apply(IssueChallenge(b"\x01" + bytes(31), bytes(48)))


def test_the_newer_of_two_sessions_of_one_key_counts(market: Market) -> None:
    older = Node(market, "a").register().quote()
    newer = Node(market, "a").register()
    assert market.open_job().reason == "no_node"
    newer.quote()
    assert market.open_job().session == newer.session
    with pytest.raises(UnknownSubjectError):
        market.apply(older.sealed_quote())


def test_a_quote_is_acknowledged_under_the_enclaves_signature(market: Market) -> None:
    node = Node(market, "a").register()
    posted = market.apply(node.sealed_quote())
    key = load_receipt_key(bytes.fromhex(market.manifest.receipt_key))
    payload = verify_enclave("quote-acknowledgement", posted.acknowledgement, key)
    acknowledgement = decode(payload, QuoteAcknowledgement, check="acknowledgement")
    assert (acknowledgement.node_id, acknowledgement.sequence) == (node.node_id, 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "gpt-9"}, "does not list"),
        ({"input_price": 40_001}, "reserve"),
        ({"output_price": 120_001}, "reserve"),
        ({"expires_ms": 1}, "lives at most"),
        ({"expires_ms": 2**50}, "lives at most"),
        ({"sequence": 0}, "sequence"),
    ],
    ids=str,
)
def test_a_quote_that_may_not_stand_is_refused(market: Market, change: dict[str, object], why: str) -> None:
    node = Node(market, "a").register().quote(sequence=0)
    with pytest.raises(RefusedQuoteError, match=why):
        node.quote(**change)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("change", [{"session": "ses_" + "0" * 32}, {"node_id": "node_" + "0" * 32}])
def test_a_quote_of_another_session_or_node_is_refused(market: Market, change: dict[str, str]) -> None:
    node = Node(market, "a").register()
    with pytest.raises(VerificationError, match="another session or node"):
        node.quote(**change)  # type: ignore[arg-type]  # fields by name


def test_a_replayed_quote_is_refused(market: Market) -> None:
    node = Node(market, "a").register()
    sealed = node.sealed_quote()
    market.apply(sealed)
    with pytest.raises(RefusedQuoteError, match="sequence"):
        market.apply(sealed)


def test_a_quote_sealed_to_another_key_is_refused(market: Market) -> None:
    node = Node(market, "a").register()
    sealed = node.sealed_quote()
    with pytest.raises(VerificationError, match="sealed quote"):
        market.apply(msgspec.structs.replace(sealed, sealed=sealed.sealed[:-1] + bytes([sealed.sealed[-1] ^ 1])))


def test_a_refused_command_changes_nothing(market: Market, cheap: Node) -> None:
    size = len(market.leaves)
    with pytest.raises(RefusedQuoteError):
        cheap.quote(model="gpt-9")
    assert len(market.leaves) == size
    assert isinstance(market.open_job(), link.Awarded)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x92\xc4\0\xc4\0" + b"\x90",
        b"\x93\xc4\0\xc4\0" + b"\x91" * 5000 + b"\xc0",
        b"\x92\xa1\xff\xa1\xff",
    ],
    ids=["empty", "no msgpack", "trailing", "deep", "not UTF-8"],
)
def test_whatever_is_sealed_is_a_quote_or_refused(market: Market, content: bytes) -> None:
    """Anybody may register and seal anything: nothing of it may end the enclave."""
    node = Node(market, "a").register()
    sealing_key = X25519PublicKey.from_public_bytes(bytes.fromhex(market.manifest.sealing_key))
    with pytest.raises(VerificationError, match="quote"):
        market.apply(link.PostSealedQuote(node.session, seal(content, sealing_key)))


def test_challenges_nobody_answers_keep_nobody_out() -> None:
    market = Market(max_nodes=3)
    for number in range(10):
        Node(market, f"silent {number}").market.apply(IssueChallenge(bytes([7] * 31 + [number]), bytes([number] * 48)))
    Node(market, "honest").register().quote()
    assert isinstance(market.open_job(), link.Awarded)


def test_an_answer_that_is_refused_leaves_the_challenge_open(market: Market) -> None:
    node = Node(market, "a")
    issued = challenged(market, node)
    with pytest.raises(VerificationError):
        market.apply(link.RegisterNode(issued.session, node.registration(issued, challenge="00" * 32)))
    market.apply(link.RegisterNode(issued.session, node.registration(issued)))
    with pytest.raises(IllegalCommandError):
        market.apply(link.RegisterNode(issued.session, node.registration(issued)))


def transcript_of(market: Market) -> Transcript:
    return verify_transcript(market.open_job().transcript)


def test_nodes_of_one_operator_do_not_set_each_others_price(market: Market) -> None:
    Node(market, "a", operator="fleet").register().quote(20_000, 60_000)
    Node(market, "b", operator="fleet").register().quote(22_000, 66_000)
    assert transcript_of(market).input_price == 40_000


def test_nobody_counts_itself_among_anothers_nodes_by_taking_its_name(market: Market) -> None:
    """A rival that is no runner-up sets no price: whoever could claim it as his own would be paid the list price."""
    Node(market, "rival").register().quote(22_000, 66_000)
    claimant = Node(market, "claimant", operator="operator-rival")
    own = Ed25519PrivateKey.from_private_bytes(bytes(32))
    granted = encode(FleetGrant(operator="operator-rival", node_key=claimant.public_key.hex()))
    issued = market.apply(IssueChallenge(claimant.public_key, market.random.randbytes(48)))
    claimant.session = issued.session
    named = {
        "fleet_key": own.public_key().public_bytes_raw().hex(),
        "fleet_signature": sign_ed25519("fleet-grant", granted, own).hex(),
    }
    market.apply(link.RegisterNode(issued.session, claimant.registration(issued, **named)))
    claimant.quote(20_000, 60_000)
    assert transcript_of(market).input_price == 22_000


@pytest.mark.parametrize("change", ["fleet_key", "fleet_signature", "operator", "node"])
def test_a_grant_by_another_key_for_another_node_or_name_is_refused(market: Market, change: str) -> None:
    node, other = Node(market, "a"), Node(market, "b")
    changes = grant("stranger", node.public_key)
    changed = grant(node.operator, other.public_key) if change == "node" else {change: changes[change]}
    issued = market.apply(IssueChallenge(node.public_key, market.random.randbytes(48)))
    with pytest.raises(VerificationError, match="fleet-grant signature"):
        market.apply(link.RegisterNode(issued.session, node.registration(issued, **changed)))
