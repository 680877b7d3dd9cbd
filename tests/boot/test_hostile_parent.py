"""A parent that plays with the vsock: the enclave refuses, says which, and serves on."""

import dataclasses
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from tests.boot.console import until_said
from tests.boot.lab import running_machine
from tests.enclave.test_server import HostLink

from pinaivu_shared.wire import link, link_boot
from pinaivu_shared.wire.ports import LINK_PORT
from pinaivu_simulator.market import market_configuration
from pinaivu_simulator.qemu import Emulator, Machine

pytestmark = pytest.mark.trio

CONNECTIONS = 10_000
AT_ONCE = 50


@asynccontextmanager
async def dialled(machine: Machine) -> AsyncIterator[trio.SocketStream]:
    """A connection to the enclave's server, once it listens."""
    while True:
        stream = await trio.open_unix_socket(str(machine.folder / "vm.vsock"))
        await stream.send_all(f"CONNECT {LINK_PORT}\n".encode())
        try:
            greeting = await stream.receive_some(64)
        except trio.BrokenResourceError:
            greeting = b""
        if greeting.startswith(b"OK "):
            break
        await stream.aclose()
        await trio.sleep(0.1)
    async with stream:
        yield stream


async def introduce(machine: Machine) -> link.Result | link.Push:
    async with dialled(machine) as stream:
        return await HostLink(stream).call(link_boot.Introduce(secrets.token_hex(16), link.LINK_PROTOCOL))


async def test_what_breaks_the_protocol_costs_one_connection(emulator: Emulator, image: Path) -> None:
    async with running_machine(emulator, image) as machine:
        for bytes_sent, said in (
            ((1 << 31).to_bytes(4), "announced a frame of 2147483648 bytes"),
            (b"\xff\xff\xff\xff", "announced a frame of 4294967295 bytes"),
            (b"\x00\x00\x00\x04junk", "not a call"),
            (b"GET / HTTP/1.1\r\n\r\n", "announced a frame of 1195725856 bytes"),
        ):
            async with dialled(machine) as stream:
                await stream.send_all(bytes_sent)
                assert await HostLink(stream).is_ended()
            await until_said(machine, said)
        assert await introduce(machine) == link_boot.Introduction("unconfigured", 0, 0)


async def test_an_enclave_without_a_console_serves_as_well(emulator: Emulator, image: Path) -> None:
    """Outside debug mode nobody is shown the console; nothing may depend on writing to it."""
    silent = dataclasses.replace(emulator, has_console=False)
    async with running_machine(silent, image) as machine:
        assert await introduce(machine) == link_boot.Introduction("unconfigured", 0, 0)
        async with dialled(machine) as stream:
            await stream.send_all(b"\x00\x00\x00\x04junk")
            assert await HostLink(stream).is_ended()
        assert await introduce(machine) == link_boot.Introduction("unconfigured", 0, 0)
        assert "init" not in machine.console()


async def test_ten_thousand_connections_are_no_reason_to_end(emulator: Emulator, image: Path) -> None:
    async with running_machine(emulator, image) as machine:
        assert await introduce(machine) == link_boot.Introduction("unconfigured", 0, 0)

        async def hang_up() -> None:
            for _ in range(CONNECTIONS // AT_ONCE):
                async with dialled(machine):
                    pass

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(hang_up)
        assert await introduce(machine) == link_boot.Introduction("unconfigured", 0, 0)


async def test_a_configuration_swapped_at_boot_is_refused_and_the_first_one_stands(
    emulator: Emulator, image: Path
) -> None:
    first, second = (market_configuration(origin, ["m"], platform="qemu") for origin in ("a.test/log", "b.test/log"))
    async with running_machine(emulator, image) as machine, dialled(machine) as stream:
        host = HostLink(stream)
        await host.call(link_boot.Introduce("0" * 32, link.LINK_PROTOCOL))
        assert isinstance(await host.call(link_boot.Configure(first)), link.Done)
        refused = await host.call(link_boot.Configure(second))
        assert isinstance(refused, link.Refused)
        assert "another configuration is measured already" in refused.detail


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"platform": "simulator"}, "platform"),
        ({"debug": True}, "configuration"),
        ({"environment": {"PYTHONPATH": "/tmp"}}, "configuration"),  # noqa: S108 - it is not used
        ({"platform": "nitro"}, "configuration"),
    ],
)
async def test_a_configuration_beyond_the_schema_is_not_even_measured(
    emulator: Emulator, image: Path, change: dict[str, object], check: str
) -> None:
    """On nitro a TLS root of the host's own is refused; and no key of any name turns a check off."""
    plain = msgspec.json.decode(market_configuration("a.test/log", ["m"], platform="qemu"))
    raw = msgspec.json.encode({**plain, **change}, order="sorted")
    async with running_machine(emulator, image) as machine, dialled(machine) as stream:
        host = HostLink(stream)
        await host.call(link_boot.Introduce("0" * 32, link.LINK_PROTOCOL))
        refused = await host.call(link_boot.Configure(raw))
        assert isinstance(refused, link.Refused)
        assert refused.detail.startswith(check)
        assert (await host.call(link_boot.OpenVault(b""))) == link.Refused(
            "illegal_command", "OpenVault before Configure"
        )
