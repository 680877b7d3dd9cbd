"""Inference engines, all spoken to over the OpenAI protocol."""
