"""How much the ramdisks of one image may unpack to: a small file must not keep or fill the machine that looks at it."""

from dataclasses import dataclass
from typing import Final

from pinaivu_shared.eif.errors import EifError

MAX_UNPACKED_BYTES: Final = 512 << 20
MAX_ENTRIES: Final = 250_000
MAX_MEMBERS: Final = 1000


@dataclass(slots=True)
class Budget:
    """What is left for all ramdisks of an image together. Whoever unpacks, takes; EifError("ramdisk") at the end."""

    max_bytes: int = MAX_UNPACKED_BYTES
    bytes_taken: int = 0
    """Unpacked content, and each further copy that a hard link has of it."""
    entries_taken: int = 0
    members_taken: int = 0

    def take_bytes(self, size: int) -> None:
        """Count content that the file has in another form, or once only."""
        self.bytes_taken += size
        if self.bytes_taken > self.max_bytes:
            raise EifError("ramdisk", f"the image unpacks to more than {self.max_bytes} bytes")

    def take_entry(self) -> None:
        """Count a file, directory, link or device."""
        self.entries_taken += 1
        if self.entries_taken > MAX_ENTRIES:
            raise EifError("ramdisk", f"the image has more than {MAX_ENTRIES} entries")

    def take_member(self) -> None:
        """Count a gzip member."""
        self.members_taken += 1
        if self.members_taken > MAX_MEMBERS:
            raise EifError("ramdisk", f"the image has more than {MAX_MEMBERS} gzip members")
