"""Nodes that cheat: each is the real agent with one piece of its connection replaced."""
