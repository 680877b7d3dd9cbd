"""The steps of Dockerfile.enclave, run as a build container would: root without CAP_SYS_ADMIN, and no namespaces."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.deploy.checkout import copy_checkout
from tests.deploy.dockerfile import commands, stages

from pinaivu_image.building import BuildPlan
from pinaivu_image.lock import LOCK_FILE, read_lock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a container's root is played by root")

CONTAINED = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
REFUSED = "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
"""What Docker's seccomp profile makes of `unshare` for a process without CAP_SYS_ADMIN."""


def test_a_container_without_privileges_builds_the_very_image(plan: BuildPlan, image: Path, tmp_path: Path) -> None:
    if plan.lock != read_lock(LOCK_FILE):
        pytest.skip("the committed lock cannot be built here: its packages have left the mirrors")
    source, programs = copy_checkout(tmp_path / "src"), tmp_path / "bin"
    programs.mkdir()
    (programs / "unshare").write_text(REFUSED)
    (programs / "unshare").chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PINAIVU_", "VIRTUAL_ENV"))}
    environment = ours | {"PATH": f"{programs}:{os.environ['PATH']}"}
    for command in commands(stages("Dockerfile.enclave")[0]):
        step = [*CONTAINED, "sh", "-c", command.replace("/out", str(tmp_path / "out"))]
        ended = subprocess.run(step, check=False, cwd=source, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}\n{ended.stderr[-3000:]}"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pinaivu.eif", "pinaivu.eif.json"]
    assert (tmp_path / "out" / "pinaivu.eif").read_bytes() == image.read_bytes()
