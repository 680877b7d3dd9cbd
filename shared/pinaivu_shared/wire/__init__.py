"""Messages that cross a machine edge, as msgpack: gateway to node, and host to enclave."""
