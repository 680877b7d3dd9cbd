"""The GPU operator's agent."""
