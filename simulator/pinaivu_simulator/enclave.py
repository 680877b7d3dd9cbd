"""The enclave program on a simulated platform: the production server over a Unix socket that stands for vsock."""

import secrets
from pathlib import Path

import trio

from pinaivu_enclave.boot import EnclavePlatform
from pinaivu_enclave.clock import AnchoredClock
from pinaivu_enclave.kms.vault import KmsVault
from pinaivu_enclave.server import EnclaveServer
from pinaivu_simulator.clock import now_ms
from pinaivu_simulator.data_directory import DataDirectory
from pinaivu_simulator.nsm import SimulatedNsm


class UnixParent:
    """Implements `pinaivu_enclave.parent.Parent`: port P of the parent is the Unix socket `<path>_P`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def connect(self, port: int) -> trio.SocketStream:
        """See `Parent`."""
        return await trio.open_unix_socket(f"{self._path}_{port}")


async def serve_enclave(socket_path: Path, parent_path: Path, folder: Path) -> None:
    """Serve until cancelled. Started again on the same folder, it is the next epoch of the same log."""
    data = DataDirectory(folder)
    nsm = SimulatedNsm(data.pki(), now_ms=now_ms, entropy=secrets.token_bytes)
    vault = KmsVault(nsm, UnixParent(parent_path))
    platform = EnclavePlatform(names=frozenset({"simulator"}), nsm=nsm, root=nsm.trust_root, vault=vault)
    await EnclaveServer(platform, AnchoredClock(nsm)).serve([await listen(socket_path)])


async def listen(socket_path: Path) -> trio.SocketListener:
    """A listener where the host's `unix:PATH` connects; one that a killed process left behind is taken over."""
    await trio.Path(socket_path).unlink(missing_ok=True)
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listening.bind(str(socket_path))
    listening.listen(128)
    return trio.SocketListener(listening)
