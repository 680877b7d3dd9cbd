"""What every step of a build works with."""

from dataclasses import dataclass
from pathlib import Path

from pinaivu_image.build_root import BuildRoot
from pinaivu_image.fetch import InputCache
from pinaivu_image.lock import ImageLock
from pinaivu_image.progress import Reporter


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """The locked inputs, all of them fetched; the checkout `source`; the entered build root; who hears of progress."""

    lock: ImageLock
    source: Path
    cache: InputCache
    root: BuildRoot
    reporter: Reporter
