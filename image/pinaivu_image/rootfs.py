"""The tree that Linux makes of the ramdisks: each is unpacked over those before it (init/initramfs.c).

On its way the kernel follows links, writes into files that are there, and drops in silence what it cannot create. The
entries of a ramdisk are the tree only where it does nothing of that; where it would, the ramdisk is refused.
"""

from collections.abc import Iterable, Mapping
from stat import S_IFDIR, S_IFMT, S_IFREG
from typing import Final, NamedTuple

from pinaivu_shared.eif.cpio import PART, CpioEntry
from pinaivu_shared.eif.errors import EifError

MAX_NAME_BYTES: Final = 255  # Linux's NAME_MAX
ROOT: Final = "."


class Node(NamedTuple):
    """What lies at a path: its kind (the type bits of stat(2)), and the number of the ramdisk that wrote it last."""

    kind: int
    ramdisk: int
    linked: bool


Tree = Mapping[str, Node]
"""By plain path. The directory of each path is in it, as a directory."""
EMPTY: Final[Tree] = {ROOT: Node(S_IFDIR, 0, linked=False)}


def unpack_over(tree: Tree, entries: Iterable[CpioEntry], ramdisk: int) -> Tree:
    """The tree after this ramdisk; EifError("ramdisk") where it would not have just these entries."""
    after = dict(tree)
    for entry in entries:
        path = plain_path(entry.path)
        obstacle = _place_obstacle(after, entry, path) or _overwriting_obstacle(after.get(path), entry, ramdisk)
        if obstacle is not None:
            raise EifError(PART, f"{entry.path!r} {obstacle}")
        after[path] = Node(S_IFMT(entry.mode), ramdisk, entry.linked)
    return after


def replaced_files(before: Tree, after: Tree) -> list[str]:
    """The paths of files that were there and were written again, sorted."""
    return sorted(path for path, node in before.items() if node.kind != S_IFDIR and after[path].ramdisk != node.ramdisk)


def plain_path(path: str) -> str:
    """The path below the root, without the `./` or `/` that other tools put in front; `.` for the root itself."""
    if path.startswith(("./", "/")) or path.endswith(("/", "/.")) or "//" in path or "/./" in path:
        return "/".join(part for part in path.split("/") if part not in {"", "."}) or ROOT
    return path


def _place_obstacle(tree: Tree, entry: CpioEntry, path: str) -> str | None:
    """Why Linux cannot make something there, or would make it elsewhere."""
    folder, _, name = path.rpartition("/")
    parent = tree.get(folder or ROOT)
    if ".." in (folder.rpartition("/")[2], name) or (parent is None and ".." in path.split("/")):
        return "leads out of a directory with `..`"
    if parent is None or parent.kind != S_IFDIR:
        return "is in no directory that is there: the kernel drops it, or follows a link"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return "has a name that is longer than Linux takes"
    is_folder = S_IFMT(entry.mode) == S_IFDIR
    if path != ROOT and entry.path.endswith("/." if is_folder else ("/", "/.")):
        return "ends as Linux lets no new path end"
    return None


def _overwriting_obstacle(there: Node | None, entry: CpioEntry, ramdisk: int) -> str | None:
    """Why what is there would not become this entry alone."""
    kind = S_IFMT(entry.mode)
    if there is None or kind == there.kind == S_IFDIR:
        return None
    if kind != there.kind:
        return "is there already, as another kind of file"
    if there.ramdisk == ramdisk:
        return "is written twice"
    if kind != S_IFREG:
        return f"is neither file nor directory, and is in ramdisk {there.ramdisk} already"
    if there.linked:
        return f"is in ramdisk {there.ramdisk} already and has other links there, which would change too"
    return None
