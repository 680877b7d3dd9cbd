"""`POST /v1/responses`: a body read as the chat that it means, and the chat's answer as OpenAI's response."""
