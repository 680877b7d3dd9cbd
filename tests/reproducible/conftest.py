"""The image under test is that of tests/boot."""

from tests.boot.conftest import image, plan

__all__ = ["image", "plan"]
