"""What an endpoint calls the parameters that may turn out to be at fault after a body was read."""

from collections.abc import Mapping
from dataclasses import dataclass

from pinaivu_shared.terms import Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterNames:
    """`content` is the parameter that has what the model is to read. The names are chat completions' by default."""

    content: str = "messages"
    format: str = "response_format"
    logprobs: str = "logprobs"

    @property
    def needs(self) -> Mapping[Capability, tuple[str, str]]:
        """The parameter that asks for each capability, `model` for the kind of request itself, and how to say it."""
        return {
            "chat": ("model", "chat completions"),
            "completions": ("model", "completions of a prompt (POST /v1/completions)"),
            "embeddings": ("model", "embeddings"),
            "images": (self.content, f"images in {self.content}"),
            "json_object": (self.format, f"{self.format} json_object"),
            "json_schema": (self.format, f"{self.format} json_schema"),
            "logprobs": (self.logprobs, "logprobs"),
            "multiple_choices": ("n", "n above 1"),
            "reasoning_effort": ("reasoning_effort", "reasoning_effort"),
            "tools": ("tools", "tools"),
        }
