"""The outbox: an order of the operator gets into the log once, whatever breaks on the way, or is refused and shown."""

import asyncio

import msgspec
import pytest
from tests.host.fake_enclave import OPERATOR_KEY, FakeEnclave, Reply, now_ms, signed_order
from tests.host.town import CONFIGURATION, Town, deposit

from pinaivu_host.errors import OrderConflictError
from pinaivu_host.operator_orders import OperatorKey
from pinaivu_host.store.orders import StoredOrder
from pinaivu_shared.canonical import encode
from pinaivu_shared.leaves import OrderLeaf
from pinaivu_shared.signed import Signed, sign_ed25519
from pinaivu_shared.terms import Deposit
from pinaivu_shared.wire.link import HostCommand, OrderRecorded, RecordOrder

pytestmark = [pytest.mark.anyio, pytest.mark.every_database]
KEY = OperatorKey(OPERATOR_KEY, CONFIGURATION)
NODE = "node_" + "5" * 32
PATIENCE_S = 600.0
"""No test waits that long: it ends when the order is decided."""


def paid_in(town: Town, amount: int = 7, *, reference: str = "invoice-1") -> Signed:
    return KEY.deposit(reference=reference, account=town.account_id, amount=amount)


async def decided(town: Town, signed: Signed) -> StoredOrder:
    """The order once it is in the outbox and decided, however often the link breaks meanwhile."""
    stored = await town.host.orders.add(signed)
    while stored.state == "pending":
        await town.host.link.wait_ready()
        stored = await town.host.outbox.decided(stored.reference, limit_s=PATIENCE_S)
    return stored


def logged(town: Town, reference: str = "invoice-1") -> list[OrderLeaf]:
    return [leaf for leaf in town.enclave.logged(OrderLeaf) if leaf.order.reference == reference]


async def credit_of(town: Town) -> int:
    account = await town.host.accounts.account(town.account_id)
    assert account is not None
    return account.credit


@pytest.fixture
async def before(town: Town) -> int:
    return await credit_of(town)


async def test_an_order_becomes_a_leaf_and_credit(town: Town, before: int) -> None:
    stored = await decided(town, paid_in(town))
    (leaf,) = logged(town)
    assert (stored.state, stored.leaf_index) == ("recorded", leaf.index)
    assert await credit_of(town) == before + 7


async def test_the_same_order_again_is_the_same_order(town: Town, before: int) -> None:
    first = await decided(town, paid_in(town))
    assert await decided(town, paid_in(town)) == first
    assert len(town.enclave.all_of(RecordOrder)) == 2, "the opening deposit, and this one"
    assert await credit_of(town) == before + 7


async def test_another_order_of_the_same_reference_is_a_conflict(town: Town, before: int) -> None:
    await decided(town, paid_in(town))
    with pytest.raises(OrderConflictError, match="invoice-1"):
        await town.host.orders.add(paid_in(town, 8))
    assert await credit_of(town) == before + 7


async def test_without_an_enclave_an_order_waits_for_one(town: Town, before: int) -> None:
    await town.enclave.stop()
    while town.host.link.ready:
        await town.client().get("/readyz")
    await town.host.orders.add(paid_in(town))
    waiting = await town.host.outbox.decided("invoice-1", limit_s=PATIENCE_S)
    assert waiting.state == "pending", "said at once"
    town.enclave = FakeEnclave(town.enclave.path)
    await town.enclave.start()
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert await credit_of(town) == before + 7


async def test_an_order_that_the_enclave_never_saw_is_sent_again(town: Town, before: int) -> None:
    town.enclave.silent_on = (RecordOrder,)
    await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    town.enclave.silent_on = ()
    town.enclave.drop()
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert await credit_of(town) == before + 7


async def test_an_order_whose_answer_was_lost_counts_once(town: Town, before: int) -> None:
    lost = lose(town, OrderRecorded)
    await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert (lost, len(logged(town))) == ([1], 1)
    assert await credit_of(town) == before + 7


async def test_an_order_whose_leaf_was_lost_with_its_answer_counts_once(town: Town, before: int) -> None:
    lost = lose(town, object)
    await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert (lost, len(logged(town))) == ([2], 1)
    assert await credit_of(town) == before + 7


async def test_who_waits_for_an_order_hears_that_its_leaf_came_without_an_answer(town: Town, before: int) -> None:
    town.enclave.silent_on = (RecordOrder,)
    waiting = asyncio.create_task(decided(town, paid_in(town)))
    await town.enclave.heard(RecordOrder, count=2)
    town.enclave.silent_on = ()
    town.enclave.carry_out(RecordOrder(paid_in(town)))
    await town.enclave.credited()
    town.enclave.drop()
    assert (await waiting).state == "recorded"
    assert len(town.enclave.all_of(RecordOrder)) == 2, "it is not sent again"
    assert await credit_of(town) == before + 7


async def test_an_order_that_was_lost_with_its_enclave_is_sent_to_the_next(town: Town, before: int) -> None:
    lose(town, object)
    await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    assert len(logged(town)) == 1
    await town.enclave.stop()
    town.enclave = FakeEnclave(town.enclave.path)
    await town.enclave.start()
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert len(logged(town)) == 1
    assert await credit_of(town) == before + 7


async def test_an_order_outlives_the_host(town: Town, before: int) -> None:
    town.enclave.silent_on = (RecordOrder,)
    await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    await town.close_host()
    town.enclave.silent_on = ()
    await town.open_host()
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert await credit_of(town) == before + 7


async def test_a_refused_order_is_shown_and_not_sent_again(town: Town, before: int) -> None:
    refused = await decided(town, KEY.payout(reference="payout-1", node_id=NODE, amount=5))
    assert refused.state == "refused"
    assert refused.refusal == f"unknown_subject: no node {NODE}"
    town.enclave.drop()
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert [one.order.payload for one in town.enclave.all_of(RecordOrder)].count(refused.signed.payload) == 1
    assert await credit_of(town) == before + 7


async def test_an_enclave_that_is_busy_is_asked_again(town: Town, before: int) -> None:
    town.enclave.refused = {RecordOrder: "market_full"}
    await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    town.enclave.refused = {}
    assert (await decided(town, paid_in(town))).state == "recorded"
    assert await credit_of(town) == before + 7


async def test_a_reference_that_another_order_took_meanwhile_is_refused(town: Town, before: int) -> None:
    """Somebody else handed it in, to the same enclave: what is in the log counts."""
    town.enclave.silent_on = (RecordOrder,)
    ours = await town.host.orders.add(paid_in(town))
    await town.enclave.heard(RecordOrder, count=2)
    theirs = order(town, 1000, reference="invoice-1")
    town.enclave.coordinator.apply(signed_order(theirs), now_ms())  # its leaf is pushed to whoever connects next
    town.enclave.silent_on = ()
    town.enclave.drop()
    decision = await decided(town, ours.signed)
    assert decision.state == "refused"
    assert decision.refusal is not None
    assert decision.refusal.startswith("duplicate_order")
    assert await credit_of(town) == before + 1000


async def test_orders_that_others_handed_in_are_shown_as_well(town: Town, before: int) -> None:
    theirs = order(town, 1000, reference="from-elsewhere")
    await town.host.link.call(signed_order(theirs), OrderRecorded)
    await decided(town, paid_in(town))
    (shown,) = [one for one in await town.host.orders.newest() if one.reference == theirs.reference]
    assert (shown.order, shown.state) == (theirs, "recorded")
    assert await credit_of(town) == before + 1007


async def test_credit_for_an_account_that_this_host_does_not_know_is_no_harm(town: Town, before: int) -> None:
    stranger = KEY.deposit(reference="stranger", account="acct_" + "0" * 32, amount=9)
    assert (await decided(town, stranger)).state == "recorded"
    assert await credit_of(town) == before


async def test_an_order_of_another_key_is_refused_for_good(town: Town) -> None:
    payload = encode(order(town, 5, reference="forged"))
    forged = Signed(payload, sign_ed25519("order", payload + b" ", OPERATOR_KEY))
    assert (await decided(town, forged)).refusal == "verification_failed: order signature: does not verify"


def lose(town: Town, kind: type[object]) -> list[int]:
    """Once, carry an order out and break the link in place of what is of `kind`: how many messages that were."""
    lost: list[int] = []

    def alter(command: HostCommand, reply: Reply) -> Reply:
        if not isinstance(command, RecordOrder) or lost:
            return reply
        kept = [one for one in reply if not isinstance(one, kind)]
        lost.append(len(reply) - len(kept))
        asyncio.get_running_loop().call_soon(town.enclave.drop)
        return kept

    town.enclave.alter = alter
    return lost


def order(town: Town, amount: int, *, reference: str) -> Deposit:
    """A deposit that this host did not make."""
    return msgspec.structs.replace(deposit(town.account_id, amount), reference=reference)
