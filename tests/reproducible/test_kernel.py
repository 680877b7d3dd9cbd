"""A kernel compiled again, from its source, with nothing that was made before, is the same kernel. Takes minutes."""

from pathlib import Path

from tests.boot.builds import Surroundings, copy_cache, copy_checkout
from tests.boot.test_reproducible import SOMEWHERE_ELSE

from pinaivu_image.building import BuildPlan
from pinaivu_image.lock import write_lock


def test_a_kernel_compiled_elsewhere_gives_the_same_image(plan: BuildPlan, image: Path, tmp_path: Path) -> None:
    elsewhere = Surroundings(
        checkout=copy_checkout(plan.source, tmp_path / "checkout"),
        cache=copy_cache(plan.cache, tmp_path / "cache", ("inputs",)),
        umask=0o077,
        environment={**SOMEWHERE_ELSE, "HOME": str(tmp_path)},
    )
    lock, again = tmp_path / "lock.json", tmp_path / "again.eif"
    write_lock(plan.lock, lock)
    built = elsewhere.build(again, lock=lock)
    assert built.returncode == 0, built.stderr
    assert "compiling the kernel" in built.stderr
    (kernel,) = (elsewhere.cache / "kernels").glob("*.bzImage")
    assert kernel.read_bytes() == (plan.cache / "kernels" / kernel.name).read_bytes()
    assert again.read_bytes() == image.read_bytes()
