"""Random bytes of a module that gives as many at a time as it likes (nsm-api: "up to 256")."""

from collections.abc import Callable

from pinaivu_enclave.nsm import MAX_RANDOM_BYTES, InvalidArgumentError


def gather(size: int, draw: Callable[[int], bytes]) -> bytes:
    """`size` bytes, 1 to 256 (else InvalidArgumentError), in as many draws as it takes.

    `draw(wanted)` gives at least one byte, or raises an NsmError.
    """
    if not 0 < size <= MAX_RANDOM_BYTES:
        raise InvalidArgumentError(f"{size} random bytes, 1 to {MAX_RANDOM_BYTES} can be asked for")
    gathered = b""
    while len(gathered) < size:
        drawn = draw(size - len(gathered))
        assert drawn, "a draw gives at least one byte"
        gathered += drawn
    return gathered[:size]
