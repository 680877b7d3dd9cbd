"""The enclave's program: the production server on the real security module and AF_VSOCK. Started by `init.py`."""

import logging
import sys

import trio

from pinaivu_enclave.boot import EnclavePlatform
from pinaivu_enclave.clock import AnchoredClock
from pinaivu_enclave.kms.vault import KmsVault
from pinaivu_enclave.nsm import NsmDevice
from pinaivu_enclave.nsm.opening import open_nsm
from pinaivu_enclave.server import EnclaveServer
from pinaivu_enclave.vsock import VsockParent, listen_vsock
from pinaivu_shared.attestation.roots import aws_nitro_root
from pinaivu_shared.logs import configure_logging
from pinaivu_shared.wire.ports import LINK_PORT

logger = logging.getLogger(__name__)


async def serve_vsock(nsm: NsmDevice) -> None:
    """Serve on AF_VSOCK, as in production. The configuration names the platform, and only Nitro's root is trusted."""
    clock = await trio.to_thread.run_sync(AnchoredClock, nsm)
    vault = KmsVault(nsm, VsockParent())
    platform = EnclavePlatform(names=frozenset({"nitro", "qemu"}), nsm=nsm, root=aws_nitro_root(), vault=vault)
    listener = await listen_vsock(LINK_PORT)
    logger.info("listening", extra={"kv": {"port": LINK_PORT}})
    await EnclaveServer(platform, clock).serve([listener])


def main() -> None:
    """Run until something ends the enclave; whatever it was is the last thing on stderr, which is the console."""
    if not __debug__:
        raise SystemExit("the enclave does not run under python -O: its assertions state invariants")
    configure_logging("info")
    sys.setswitchinterval(0.001)
    trio.run(serve_vsock, open_nsm())


if __name__ == "__main__":
    main()
