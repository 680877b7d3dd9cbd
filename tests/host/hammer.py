"""A gateway process that admits what it can of one key's limits: `python -m tests.host.hammer DATABASE REQUESTS`.

It says "ready", waits for a line so that several begin together, and prints how many requests got in.
"""

import asyncio
import sys

from tests.host.limited import Clock, Process, caller, together


async def ask_all(database_url: str, requests: int) -> int:
    """All at once, and none of them ends."""
    process = Process(database_url, Clock())
    who = caller(requests_per_minute=100, concurrent_requests=80, monthly_budget=60 * 90)
    print("ready", flush=True)
    sys.stdin.readline()
    admitted, _ = await together(*(process.tried(who, max_tokens=1000) for _ in range(requests)))
    process.close()
    return len(admitted)


if __name__ == "__main__":
    print(asyncio.run(ask_all(sys.argv[1], int(sys.argv[2]))))
