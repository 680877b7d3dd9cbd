"""Writes conversation.json beside this file: hashlib computes the registers, everything else is said here.

Run as `python tests/vectors/nsm/generate.py`; a test holds the file against what `conversation` gives.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("conversation.json")

DONE = {"answer": "done"}
ZERO = "00*48"
READ_ONLY, NO_INDEX, NO_OPERATION, TOO_LARGE, BAD_ARGUMENT = (
    {"answer": "error", "name": name}
    for name in ("ReadOnlyIndex", "InvalidIndex", "InvalidOperation", "InputTooLarge", "InvalidArgument")
)
BEYOND_A_BYTE = (NO_INDEX, NO_OPERATION)  # QEMU reads numbers of one byte only

Json = dict[str, Any]


def step(says: str, call: Json, *allowed: Json) -> Json:
    return {"says": says, "call": call, "allowed": list(allowed)}


def call(operation: str, **arguments: Any) -> Json:
    return {"operation": operation, **arguments}


def described(says: str, locked: Iterable[int]) -> Json:
    return step(says, call("describe"), {"answer": "description", "locked_pcrs": list(locked)})


def register(says: str, index: int, *, locked: bool, value: str | None) -> Json:
    return step(says, call("describe_pcr", index=index), {"answer": "register", "locked": locked, "value": value})


def extend(says: str, index: int, data: str, *allowed: Json) -> Json:
    return step(says, call("extend_pcr", index=index, data=data), *allowed)


def attest(says: str, pcrs: int, *others: Json, **fields: str | None) -> Json:
    given = {"public_key": None, "user_data": None, "nonce": None, **fields}
    return step(says, call("attest", **given), {"answer": "document", "pcrs": list(range(pcrs)), **given}, *others)


def random(size: int) -> Json:
    return step(f"{size} random bytes", call("random", size=size), {"answer": "random", "size": size})


def after(*extensions: bytes) -> Json:
    """What a register holds that was zero before these extensions."""
    value = bytes(48)
    for data in extensions:
        value = hashlib.sha384(value + data).digest()
    return {"answer": "value", "value": value.hex()}


def conversation() -> list[Json]:
    """All steps, in their order: a later step leans on what earlier ones did."""
    return [*fresh(), *no_registers(), *extending(), *locking_one(), *attesting(), *locking_many(), *entropy()]


def fresh() -> list[Json]:
    set_by_the_platform = {0, 1, 2, 3, 4, 8}
    return [
        described("registers 0 to 15 are locked at start", range(16)),
        *(
            register(f"PCR{index} is locked and set by the platform", index, locked=True, value=None)
            if index in set_by_the_platform
            else register(f"PCR{index} is locked and zero", index, locked=True, value=ZERO)
            for index in range(16)
        ),
        *(register(f"PCR{index} is open and zero", index, locked=False, value=ZERO) for index in range(16, 32)),
    ]


def no_registers() -> list[Json]:
    steps = []
    for index, allowed in ((32, (NO_INDEX,)), (255, (NO_INDEX,)), (256, BEYOND_A_BYTE), (65535, BEYOND_A_BYTE)):
        steps += [
            step(f"there is no PCR{index} to describe", call("describe_pcr", index=index), *allowed),
            extend(f"there is no PCR{index} to extend", index, "00", *allowed),
            step(f"there is no PCR{index} to lock", call("lock_pcr", index=index), *allowed),
        ]
    return steps


def extending() -> list[Json]:
    digest = hashlib.sha384(b"configuration").digest()
    return [
        extend("the new value is the hash of the old one and the data", 16, b"one".hex(), after(b"one")),
        extend("extensions add up", 16, b"two".hex(), after(b"one", b"two")),
        register("describing shows the value", 16, locked=False, value=after(b"one", b"two")["value"]),
        extend("nothing is data as well", 17, "", after(b"")),
        extend("one-byte data, two-byte index", 24, "ff", after(b"\xff")),
        extend("a digest", 31, digest.hex(), after(digest)),
        extend("256 bytes of data", 20, "5a*256", after(b"\x5a" * 256)),
        extend("a request of exactly 4096 bytes", 21, "00*4069", after(bytes(4069)), TOO_LARGE),
        extend("a request of 4097 bytes", 22, "00*4070", TOO_LARGE),
        register("a refused extension changes nothing", 22, locked=False, value=ZERO),
        *(extend(f"PCR{index} is locked", index, "00", READ_ONLY) for index in (0, 4, 15)),
        register("so it stays as it was", 15, locked=True, value=ZERO),
    ]


def locking_one() -> list[Json]:
    value = after(b"one", b"two")["value"]
    return [
        *(step(f"PCR{index} is locked already", call("lock_pcr", index=index), READ_ONLY) for index in (0, 15)),
        step("an open register is locked", call("lock_pcr", index=16), DONE),
        register("locking keeps the value", 16, locked=True, value=value),
        step("a lock cannot be set twice", call("lock_pcr", index=16), READ_ONLY),
        extend("a locked register is not extended", 16, "00", READ_ONLY),
        register("nor changed by trying", 16, locked=True, value=value),
        described("the lock is listed", range(17)),
    ]


def attesting() -> list[Json]:
    return [
        attest("a document has the locked registers, without asking for anything else", 17),
        attest("a nonce, user data and a key come back", 17, public_key="3059*40", user_data="aa*32", nonce="bb*32"),
        attest("empty user data is not absent", 17, user_data=""),
        attest("an empty nonce is not absent", 17, nonce=""),
        attest("an empty key may be refused", 17, BAD_ARGUMENT, public_key=""),
        attest("three fields of 1024 bytes fit", 17, public_key="01*1024", user_data="02*1024", nonce="03*1024"),
        attest("AWS documents no field of 1025 bytes", 17, TOO_LARGE, BAD_ARGUMENT, nonce="04*1025"),
        step(
            "three fields of 1400 bytes are more than a request holds",
            call("attest", public_key="05*1400", user_data="06*1400", nonce="07*1400"),
            TOO_LARGE,
        ),
    ]


def locking_many() -> list[Json]:
    def lock(says: str, count: int, *allowed: Json) -> Json:
        return step(says, call("lock_pcrs", count=count), *allowed)

    return [
        lock("a range of none", 0, DONE),
        described("locks nothing", range(17)),
        lock("a range goes from zero, over locked registers", 18, DONE),
        described("and locks the open ones", range(18)),
        extend("which are not extended any more", 17, "00", READ_ONLY),
        lock("there are no 33 registers", 33, NO_INDEX, BAD_ARGUMENT),  # nsm-check.rs wants an error, no certain one
        lock("nor 255", 255, NO_INDEX, BAD_ARGUMENT),
        lock("nor 256", 256, *BEYOND_A_BYTE, BAD_ARGUMENT),
        described("a refused range locks nothing", range(18)),
        lock("32 locks all", 32, DONE),
        lock("and again", 32, DONE),
        described("all are locked", range(32)),
        step("none is left to lock", call("lock_pcr", index=31), READ_ONLY),
        extend("none is left to extend", 31, "00", READ_ONLY),
        attest("a document has all 32", 32, nonce="cc*20"),
    ]


def entropy() -> list[Json]:
    return [
        *(random(size) for size in (1, 32, 255, 256, 256)),
        *(
            step(f"{size} random bytes cannot be asked for", call("random", size=size), BAD_ARGUMENT)
            for size in (0, 257)
        ),
    ]


def text() -> str:
    """The file: one step a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in conversation()) + "\n]\n"


if __name__ == "__main__":
    TARGET.write_text(text())
