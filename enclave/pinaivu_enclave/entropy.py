"""The kernel's randomness, from which every key comes, seeded by the security module before any key is made."""

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from pinaivu_enclave.nsm import MAX_RANDOM_BYTES, NsmDevice

RNDADDENTROPY: Final = 0x40085203  # linux/random.h: add bytes and credit them
RANDOM: Final = Path("/dev/random")
RNG_CURRENT: Final = Path("/sys/class/misc/hw_random/rng_current")


def seed_kernel(nsm: NsmDevice) -> str:
    """Mix 256 bytes of GetRandom into the kernel's pool and credit them; OSError or NsmError ends the enclave.

    The NSM driver feeds the pool by itself as a hardware generator: the name of the kernel's is returned.
    """
    seed = nsm.random(MAX_RANDOM_BYTES)
    if len(seed) != MAX_RANDOM_BYTES or len(set(seed)) < MAX_RANDOM_BYTES // 8:
        raise OSError(f"the security module gave {len(seed)} bytes, {len(set(seed))} of them different")
    descriptor = os.open(RANDOM, os.O_WRONLY)
    try:
        fcntl.ioctl(descriptor, RNDADDENTROPY, struct.pack("ii", 8 * len(seed), len(seed)) + seed)
    finally:
        os.close(descriptor)
    return RNG_CURRENT.read_text(encoding="ascii").strip() if RNG_CURRENT.exists() else "none"
