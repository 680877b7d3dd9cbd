"""The embedded engine's process: owns llama.cpp's HTTP server, and dies without ceremony.

`python -m pinaivu_node.engines.embedded_server --model FILE --alias NAME --slots N` reads its API key from the first
line of standard input (never from arguments, which `ps` shows), prints `{"address": "http://127.0.0.1:N"}`, and lives
until standard input ends. It leaves by `os._exit`, because the server's destructor may wait for ever.
"""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

SLOT_CONTEXT: Final = 2048


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="embedded_server", description="The embedded engine.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--slots", type=int, required=True)
    chosen = parser.parse_args()
    key = sys.stdin.buffer.readline().decode("ascii").strip()
    if not key:
        parser.error("the API key must be the first line of standard input")
    server = _serve(chosen.model, chosen.alias, chosen.slots, key)
    print(json.dumps({"address": server.listening_address}), flush=True)  # noqa: T201 - the line that the node waits for
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nobody reads the pipe any more
    sys.stdin.buffer.read()
    os._exit(0)


def _serve(model: Path, alias: str, slots: int, key: str) -> Any:  # noqa: ANN401 - xllamacpp has no types
    xllamacpp: Any = import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {alias}
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.n_parallel, parameters.n_ctx = slots, slots * SLOT_CONTEXT
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1  # threads spin at barriers; one does not
    parameters.cache_prompt, parameters.cache_ram_mib = False, 0  # a shared prompt cache tells users of each other
    parameters.api_keys, parameters.verbosity = [key], -1
    parameters.endpoint_slots, parameters.ui = True, False
    # No `embedding`: with it, a request for embeddings ends llama.cpp's server with this model (measured).
    return xllamacpp.Server(parameters)


if __name__ == "__main__":
    main()
