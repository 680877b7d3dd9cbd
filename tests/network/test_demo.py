"""`pinaivu demo`, as `make demo` runs it."""

import subprocess
import sys


def test_the_demo_streams_verifies_and_shows_a_refusal() -> None:
    command = [sys.executable, "-m", "pinaivu_shared.command", "demo"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    request, rest = ended.stdout.split("\nreceipt\n")
    receipt, forged = rest.split("raised by 1 USDC")
    assert "fox" in request.lower()
    assert '"outcome": "completed"' in receipt
    assert "\nvalid" in receipt
    assert "not valid  receipt signature" in forged
