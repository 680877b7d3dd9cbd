"""A long run of the market from one seed: nodes that cheat, accounts nearly broke, a host that lies, enclaves that die.

`.venv/bin/python -m tests.enclave.long_run --seed 1 --jobs 100000` runs it; the same seed takes the same way.
"""

import argparse
import os
import shlex
import sys
import time

from tests.enclave.long_run_world import LongRun


def run_from_seed(seed: int, jobs: int, *, crashes: int) -> LongRun:
    """A whole run; what fails says how to see it again."""
    try:
        run = LongRun(seed, jobs, crashes=crashes)
        run.run()
    except Exception as error:
        error.add_note("again: " + again(seed, jobs, crashes=crashes))
        raise
    return run


def again(seed: int, jobs: int, *, crashes: int) -> str:
    """The same run as a command that works in this directory."""
    run = [os.path.relpath(sys.executable), "-m", "tests.enclave.long_run"]
    return shlex.join([*run, *("--seed", str(seed)), *("--jobs", str(jobs)), *("--crashes", str(crashes))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--crashes", type=int, default=6)
    arguments = parser.parse_args()
    started = time.monotonic()
    run = run_from_seed(arguments.seed, arguments.jobs, crashes=arguments.crashes)
    print(f"{run.awards} jobs, {run.commands} commands, {len(run.market.leaves)} leaves, {run.epoch} epochs:")
    print(f"every balance and standing recomputed from the leaves, {time.monotonic() - started:.0f} s")
    for name, counts in (("leaves", run.leaves), ("reasons", run.reasons), ("refusals", run.refusals)):
        print(f"{name}: " + ", ".join(f"{code or 'none'} {count}" for code, count in counts.most_common()))


if __name__ == "__main__":
    main()
