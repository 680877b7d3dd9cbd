"""Requests that nobody would write, against the gateway as it is served."""
