"""Runs a script of this folder under Node and reads what it reports: the result of each of its cases."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.clients.conftest import OFFLINE, TEXT
from tests.clients.weather import ARGUMENTS, HISTORY, SCHEMA, TOOL
from tests.network.conftest import Description

FOLDER: Final = Path(__file__).parent
GIVEN: Final = {"text": TEXT, "arguments": ARGUMENTS, "history": HISTORY, "schema": SCHEMA, "tool": TOOL}


def reported(script: str, network: Description, deserted: Description, **given: str) -> dict[str, Any]:
    """What each case of the script gave, by name."""
    assert (FOLDER / "node_modules").is_dir(), "tests/clients/node_modules is missing: `make clients` installs it"
    values = (network, deserted, {**GIVEN, **given})
    ended = subprocess.run(
        ["node", script, *map(json.dumps, values)],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], **OFFLINE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
