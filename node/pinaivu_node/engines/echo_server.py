"""Serve the echo engine by itself: `python -m pinaivu_node.engines.echo_server --settings tokens=64 --port 0`.

Prints `{"address": "http://127.0.0.1:N"}` as its one line when it accepts connections. With `--exit-with-stdin` it
ends when its standard input does, so that it cannot outlive the node that started it.
"""

import argparse
import json
import os
import socket
import sys
import threading
from typing import Final

import uvicorn

from pinaivu_node.engines.echo import Echo
from pinaivu_node.engines.echo_settings import parse_echo_settings
from pinaivu_shared.errors import CallerError
from pinaivu_shared.logs import configure_logging

_BACKLOG: Final = 4096


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    parser = argparse.ArgumentParser(prog="echo_server", description="The deterministic echo engine.")
    parser.add_argument("--settings", default="", help="for example tokens=64,token_interval_ms=10")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--exit-with-stdin", action="store_true")
    chosen = parser.parse_args(arguments)
    try:
        application = Echo(parse_echo_settings(chosen.settings))
    except CallerError as error:
        parser.error(str(error))
    configure_logging("critical")  # a fault that cuts a connection is no event worth a line
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            backlog=_BACKLOG,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    with socket.create_server((chosen.host, chosen.port), backlog=_BACKLOG) as listener:
        print(json.dumps({"address": f"http://{chosen.host}:{listener.getsockname()[1]}"}), flush=True)  # noqa: T201 - its one line
        if chosen.exit_with_stdin:
            threading.Thread(target=_exit_with_stdin, daemon=True).start()
        server.run(sockets=[listener])
    return 0


def _exit_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
