"""AF_VSOCK as an enclave uses it: it listens for its parent instance and dials it; there is nobody else.

On Nitro the parent is CID 3. QEMU's vsock device answers for CID 2 only, and on Nitro nobody is there; so the very same
image tries one after the other. Nothing is trusted because of a CID.
"""

import socket
from typing import Final

import trio

PARENT_CIDS: Final = (3, 2)
CONNECT_SECONDS: Final = 10.0
BACKLOG: Final = 128


class VsockParent:
    """Implements `pinaivu_enclave.parent.Parent` over AF_VSOCK."""

    async def connect(self, port: int) -> trio.SocketStream:
        """See `Parent`; the last CID's OSError when neither answers."""
        refused: OSError = TimeoutError(f"nobody answered on port {port} of the parent")
        for cid in PARENT_CIDS:
            dialled = trio.socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            try:
                with trio.move_on_after(CONNECT_SECONDS):
                    await dialled.connect((cid, port))
                    return trio.SocketStream(dialled)
            except OSError as error:
                refused = error
            except BaseException:
                dialled.close()
                raise
            dialled.close()
        raise refused


async def listen_vsock(port: int) -> trio.SocketListener:
    """A listener for the parent's connections; OSError where the kernel has no vsock."""
    listening = trio.socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    await listening.bind((socket.VMADDR_CID_ANY, port))
    listening.listen(BACKLOG)
    return trio.SocketListener(listening)
