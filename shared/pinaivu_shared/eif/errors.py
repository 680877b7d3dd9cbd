"""The one error of everything that reads images."""

from pinaivu_shared.errors import UnreadableError


class EifError(UnreadableError):
    """An image cannot be read. `part` names the place in it, `detail` says what was found there."""

    code = "unreadable_image"

    def __init__(self, part: str, detail: str) -> None:
        super().__init__(f"{part}: {detail}")
        self.part, self.detail = part, detail
