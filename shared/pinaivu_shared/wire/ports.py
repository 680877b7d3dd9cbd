"""Ports of the vsock between an enclave and its parent instance; on a laptop, names of Unix sockets."""

from typing import Final

LINK_PORT: Final = 5000
"""Enclave: the host's link (`wire.link`)."""

KMS_PORT: Final = 5001
"""Parent: the byte pipe to KMS (`wire.kms`)."""

HEARTBEAT_PORT: Final = 9000
"""Parent: AWS's nitro-cli waits here for one byte 0xB7, echoes it and so knows that the enclave has started."""
