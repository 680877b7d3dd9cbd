"""`pinaivu enclave serve`: the coordinator's program, where an init other than ours starts it."""

import argparse
import sys

USAGE = 2


def enclave(arguments: list[str]) -> int:
    """Serve until something ends it; exit 2 outside an enclave."""
    parser = argparse.ArgumentParser(prog="pinaivu enclave", description="The coordinator inside a Nitro Enclave.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser(
        "serve",
        help="serve the parent instance over vsock",
        description="Serve the parent instance over vsock. It takes no flag and no variable: what differs between two "
        "deployments is the configuration, which the host hands over and the security module measures.",
    )
    parser.parse_args(arguments)
    from pinaivu_enclave.nsm.opening import NsmMissingError
    from pinaivu_enclave.program import main

    try:
        main()
    except NsmMissingError as error:
        print(f"pinaivu enclave: {error}", file=sys.stderr)
        return USAGE
    return 0
