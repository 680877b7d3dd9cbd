"""`pinaivu auction explain`: run a transcript's auction again and say why each node won or lost. No network."""

import argparse

from pinaivu_shared.auction_explanation import Explanation, explain, read_transcript
from pinaivu_shared.auction_report import explanation_fields, explanation_lines
from pinaivu_shared.bundle import MAX_BUNDLE_BYTES
from pinaivu_shared.evidence_files import judge, read_evidence
from pinaivu_shared.flags import add_switch, parse_command


def auction(arguments: list[str]) -> int:
    """Run `pinaivu auction explain TRANSCRIPT`; 0, 1 when it does not hold, 2 when it is unreadable."""
    parser = argparse.ArgumentParser(prog="pinaivu auction", description="What a receipt's auction looked at.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    explaining = commands.add_parser("explain", help="run a transcript again and say why each node won or lost")
    explaining.add_argument(
        "transcript", metavar="TRANSCRIPT", help="file with a transcript or a whole bundle, - for standard input"
    )
    add_switch(explaining, "json", text="print one object")
    chosen = parse_command(parser, arguments)
    return judge(
        lambda: _explained(chosen.transcript), as_json=chosen.json, fields=explanation_fields, lines=explanation_lines
    )


def _explained(name: str) -> Explanation:
    return explain(read_transcript(read_evidence(name, MAX_BUNDLE_BYTES)))
