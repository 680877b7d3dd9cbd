"""`make fuzz`: requests that nobody would write, to every route with a body. Prints counts; ends with 1 on a fault.

A fault is a 500, or an answer that the OpenAPI document does not allow. The same seed makes the same requests.
"""

import argparse
import secrets
import sys

from tests.fuzz.campaign import fuzz


def main() -> int:
    """Read the arguments, fuzz, say what came of it."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.requests} requests", flush=True)
    outcome = fuzz(arguments.requests, arguments.seed)
    for (path, status, code), count in sorted(outcome.counts.items()):
        print(f"{count:8} {status} {code or 'ok':28} {path}")
    for fault in outcome.faults[:20]:
        print(f"FAULT {fault}")
    print(f"{sum(outcome.counts.values())} answers, {len(outcome.faults)} faults")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
