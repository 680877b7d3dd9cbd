"""Log lines for people and grep: `time level logger "event" key=json …` on stderr.

Events are fixed strings, data are keys: `logger.info("awarded", extra={"kv": {"request_id": request_id}})`. Values pass
through json.dumps, so that a newline sent by a peer cannot forge a line. Never a prompt, an answer, a key or a salt.
"""

import json
import logging
import sys
import time


class _LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={json.dumps(value, default=str)}" for key, value in getattr(record, "kv", {}).items())
        event = json.dumps(record.getMessage())
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname.lower()} {record.name} {event}{pairs}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str) -> None:
    """Send every logger of this process to stderr in this format, from `level` (`debug` … `error`) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for telling in ("uvicorn.error", "websockets"):  # on debug they show bytes of what peers say to each other
        logging.getLogger(telling).setLevel(max(logging.INFO, logging.getLogger().level))
    logging.captureWarnings(capture=True)
