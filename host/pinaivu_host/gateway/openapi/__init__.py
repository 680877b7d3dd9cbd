"""The OpenAPI document: every route of the gateway, with every answer that it gives."""
