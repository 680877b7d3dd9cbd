"""Orders of the operator: signed here where this host holds his key, verified here where they come from elsewhere.

Whoever holds the key can make credit out of nothing, for everybody to see in the log. So it may stay off this machine
(`pinaivu host sign-order`).
"""

from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pinaivu_shared.canonical import decode, encode
from pinaivu_shared.configuration import Configuration
from pinaivu_shared.errors import CallerError, VerificationError
from pinaivu_shared.key_file import public_bytes
from pinaivu_shared.signed import Signed, sign_ed25519, verify_ed25519
from pinaivu_shared.terms import Deposit, Order, Payout

Fund = Literal["deposits", "promotions"]


class OperatorKey:
    """Signs orders for one log. CallerError where the configuration names another key."""

    def __init__(self, key: Ed25519PrivateKey, configuration: Configuration) -> None:
        ours = public_bytes(key).hex()
        if ours != configuration.operator_key:
            raise CallerError(f"the operator's key is {ours}, the configuration names {configuration.operator_key}")
        self._key, self._origin = key, configuration.origin

    def deposit(self, *, reference: str, account: str, amount: int, fund: Fund = "deposits") -> Signed:
        """Credit for an account; VerificationError for an order that no enclave would take."""
        order = Deposit(origin=self._origin, reference=reference, account=account, amount=amount, fund=fund)
        return self._sign(order)

    def opening_deposit(self, *, account: str, amount: int) -> Signed:
        """The deposit that a new account begins with; there is one for each account."""
        return self.deposit(reference=f"opening-{account}", account=account, amount=amount)

    def payout(self, *, reference: str, node_id: str, amount: int) -> Signed:
        """What was paid to a node outside; VerificationError as above."""
        return self._sign(Payout(origin=self._origin, reference=reference, node_id=node_id, amount=amount))

    def _sign(self, order: Order) -> Signed:
        payload = encode(order)
        read_order(payload)
        return Signed(payload, sign_ed25519("order", payload, self._key))


def read_order(payload: bytes) -> Order:
    """The order in these canonical bytes; VerificationError for anything else."""
    order: Order = decode(payload, Order, check="order")  # type: ignore[arg-type]  # a union
    return order


def verify_order(signed: Signed, configuration: Configuration) -> Order:
    """The order, once it is one that the operator signed for this log; VerificationError otherwise."""
    order = read_order(signed.payload)
    if order.origin != configuration.origin:
        raise VerificationError("order", f"is for the log {order.origin}, not {configuration.origin}")
    verify_ed25519("order", signed.payload, signed.signature, bytes.fromhex(configuration.operator_key))
    return order
