"""`pinaivu simulator kms`: a simulated KMS on a port of this machine, on what a folder keeps."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Final

import trio

from pinaivu_shared.errors import CallerError
from pinaivu_simulator.clock import now_ms
from pinaivu_simulator.kms.folder import KmsFolder, read_policy
from pinaivu_simulator.kms.judge import PlatformJudge, measurements_of
from pinaivu_simulator.kms.policy import NOBODY
from pinaivu_simulator.kms.server import serve_kms
from pinaivu_simulator.kms.service import KmsService
from pinaivu_simulator.kms.store import MotoKeyStore
from pinaivu_simulator.ports import PORT_MAX

LOOPBACK: Final = "127.0.0.1"


async def run_kms(listen: str, folder: Path, policy: Path) -> None:
    """Serve until SIGTERM or SIGINT; the line on stdout says where. CallerError for an address or policy that is none.

    The policy file is read again for every request, as a key's policy may change. It need not be there yet: the
    configuration that it names (PCR16) holds the key's ARN and the endpoint's root, which this program makes.
    """
    kept = KmsFolder(folder)
    found = read_policy(policy)
    if found != NOBODY:
        measurements_of(found)
    service = platform_service(kept, policy)
    listeners = await _listeners(listen)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, service, kept, listeners)
            print(json.dumps(_described(kept, listeners)), flush=True)  # noqa: T201 - machine output
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


def platform_service(kept: KmsFolder, policy: Path) -> KmsService:
    """KMS with the folder's key, for enclaves of the folder's simulated platform that a policy file lets in."""
    current_policy = partial(read_policy, policy)
    return KmsService(
        key_arn=kept.key_arn,
        store=MotoKeyStore(kept.key),
        credentials=kept.credentials,
        policy=current_policy,
        judge=PlatformJudge(kept.platform.pki().trust_root, current_policy),
    )


async def _serve(service: KmsService, kept: KmsFolder, listeners: list[trio.SocketListener]) -> None:
    await serve_kms(service, tls=kept.tls(), listeners=listeners, now_ms=now_ms)


async def _listeners(listen: str) -> list[trio.SocketListener]:
    host, _, port = listen.rpartition(":")
    if host != LOOPBACK or not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
        raise CallerError(f"--listen {listen}: a simulated KMS listens on {LOOPBACK}:PORT only")
    try:
        return await trio.open_tcp_listeners(int(port), host=host)
    except OSError as error:
        raise CallerError(f"--listen {listen}: {error.strerror}") from error


def _described(kept: KmsFolder, listeners: list[trio.SocketListener]) -> dict[str, str]:
    host, port = listeners[0].socket.getsockname()
    return {
        "endpoint": f"{host}:{port}",
        "key_arn": kept.key_arn,
        "tls_root": kept.tls_root.hex(),
        "credentials": str(kept.credentials_file.resolve()),
    }
