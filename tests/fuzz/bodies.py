"""Bodies and headers that nobody would send: right ones, mutated; JSON at random; bytes that are no JSON."""

import copy
import json
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

TEXTS: Final = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    [
        "",
        "\0",
        "\u2028\u2029\u0085",
        "\ud800",
        "\udfff\ud800",
        "é" * 400,
        "x" * 5000,
        "a/b:1",
        "m",
        "true",
        "null",
        "\U0010ffff",
    ]
)
NUMBERS: Final = st.sampled_from(
    [0, -1, 1, 2**31, 2**53, 2**63, -(2**64), 10**400, 1e308, -0.0, 1e-320, 16.0, 0.5, float("nan"), float("inf")]
)
SCALARS: Final = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
HEADERS: Final[dict[str, list[bytes]]] = {
    "content-type": [
        b"application/json",
        b"application/json; charset=utf-16",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/\xff",
        b"",
    ],
    "content-encoding": [b"gzip", b"br", b"identity", b"\x80"],
    "accept": [b"text/event-stream", b"*/*;q=x", b"\xe2\x80\xa8"],
    "idempotency-key": [b"k", b"k" * 256, b"\xc3\xa9", b" ", b"another key"],
    "if-none-match": [b"*", b'"x"'],
    "authorization": [b"Bearer \xff\xfe", b"Bearer", b"Basic eDp5", b"Bearer sk-pnv-" + b"a" * 48],
    "x-request-id": [b"mine", b"\t"],
}


def damaged(body: dict[str, Any], random: Random, values: list[Any]) -> bytes:
    """The body with up to three of its values or keys changed, as JSON that may be damaged as well."""
    changed = json.loads(json.dumps(body))
    for _ in range(random.randrange(4)):
        _change(changed, random, values)
    text = json.dumps(changed, ensure_ascii=random.random() < 0.5)
    raw = text.encode("utf-8", "surrogatepass")
    return random.choice(DAMAGES)(raw, random) if random.random() < 0.35 else raw


def _change(value: Any, random: Random, values: list[Any]) -> None:
    """Change something at a random depth, in place."""
    while isinstance(value, dict | list) and value:
        key = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        if isinstance(value[key], dict | list) and random.random() < 0.6:
            value = value[key]
            continue
        match random.randrange(4):
            case 0 if isinstance(value, dict):
                del value[key]
            case 1 if isinstance(value, dict):
                value[random.choice(["model", "n", "stream", "x", "type", "\ud800"])] = copy.deepcopy(
                    random.choice(values)
                )
            case _:
                value[key] = copy.deepcopy(random.choice(values))
        return


def _cut(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw) + 1)]


def _flip(raw: bytes, random: Random) -> bytes:
    place = random.randrange(len(raw))
    return raw[:place] + bytes([random.randrange(256)]) + raw[place + 1 :]


def _double_a_key(raw: bytes, random: Random) -> bytes:
    return b'{"model":"m",' + raw[1:]


def _nest(raw: bytes, random: Random) -> bytes:
    depth = random.choice([10, 200, 1000, 20_000])
    return raw[:-1] + b',"deep":' + b"[" * depth + b"]" * depth + b"}"


def _recode(raw: bytes, random: Random) -> bytes:
    return raw.decode("utf-8", "replace").encode(random.choice(["utf-16", "utf-32-be", "utf-8-sig", "utf-7"]))


def _random_bytes(raw: bytes, random: Random) -> bytes:
    return random.randbytes(random.randrange(64))


def _huge_number(raw: bytes, random: Random) -> bytes:
    return raw[:-1] + b',"seed":' + b"9" * random.choice([30, 400, 5000]) + b"}"


def _in_a_list(raw: bytes, random: Random) -> bytes:
    return b"[" + raw + b"]"


DAMAGES: Final = (_cut, _flip, _double_a_key, _nest, _recode, _random_bytes, _huge_number, _in_a_list)
