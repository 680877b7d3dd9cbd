"""Programs that say on one line of JSON where they are, and then run until they are told to end."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def running_program(*arguments: str) -> Iterator[dict[str, Any]]:
    """`pinaivu <arguments>` and its first line; ended by SIGTERM, after which it must exit with 0."""
    command = [sys.executable, "-m", "pinaivu_shared.command", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert first, "it ended before it was ready; its log is above"
            yield json.loads(first)
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait()
    assert status == 0
