"""The files under deploy/: units, allocator, compose and IAM policies that agree with each other and with the code.

nitro-cli and Nitro hardware are not here. A program of the same name stands in for the one, and says what it was asked.
"""

import configparser
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # moto brings it; it has no types
from tests.deploy.dockerfile import ROOT, stages

from pinaivu_shared.wire.ports import KMS_PORT, LINK_PORT

DEPLOY = ROOT / "deploy"
UNITS = ("pinaivu-enclave.service", "pinaivu-host.service")
LARGEST_IMAGE_MIB = 64
"""Some times what `make bench-image` prints; nitro-cli wants four times as much memory (E26)."""

NITRO_CLI = """\
#!/bin/sh
echo "$@" >> "$CALLS"
case $1 in
  run-enclave) touch "$RUNNING" ;;
  terminate-enclave) rm -f "$RUNNING" ;;
  describe-enclaves)
    if [ -e "$RUNNING" ]; then printf '[\\n  {\\n    "EnclaveName": "pinaivu"\\n  }\\n]\\n'; else echo '[]'; fi ;;
esac
"""


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep capitals
    parser.read_string((DEPLOY / name).read_text().replace("\\\n", ""))
    return parser


def enclave_settings() -> dict[str, str]:
    return dict(item.split("=", 1) for item in unit(UNITS[0])["Service"]["Environment"].split())


def host_command() -> list[str]:
    return shlex.split(unit(UNITS[1])["Service"]["ExecStart"])


def flag(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    for program in ("deploy/run-enclave", "venv/bin/pinaivu"):
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).symlink_to(sys.executable)
    for name in UNITS:
        (tmp_path / name).write_text((DEPLOY / name).read_text().replace("/opt/pinaivu", str(tmp_path)))
    (tmp_path / "nitro-enclaves-allocator.service").write_text("[Service]\nExecStart=/bin/true\n")
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_host_accepts_every_flag_of_its_unit() -> None:
    program, *arguments = host_command()
    assert Path(program).name == "pinaivu"
    command = [sys.executable, "-m", "pinaivu_shared.command", *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "pinaivu host: --configuration /etc/pinaivu/configuration.json: No such file or directory\n"


def test_host_and_enclave_name_the_same_numbers() -> None:
    command = host_command()
    assert flag(command, "--enclave") == f"vsock:{enclave_settings()['PINAIVU_CID']}:{LINK_PORT}"
    assert flag(command, "--kms-listen") == f"vsock:{KMS_PORT}"
    assert int(enclave_settings()["PINAIVU_CID"]) > 3, "0 to 3 are taken"


def test_the_host_may_open_vsock_and_the_internet_and_write_to_its_database_only() -> None:
    service = unit(UNITS[1])["Service"]
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_VSOCK"} <= set(service["RestrictAddressFamilies"].split())
    assert service["ProtectSystem"] == "strict"
    assert flag(host_command(), "--data-dir") == f"/var/lib/{service['StateDirectory']}"


def test_memory_covers_the_image_four_times_and_the_allocator_covers_the_enclave() -> None:
    settings = enclave_settings()
    text = (DEPLOY / "allocator.yaml").read_text()
    allocator = dict(line.split(": ") for line in text.splitlines() if line[0] not in "-#")
    assert allocator == {name: str(value) for name, value in yaml.safe_load(text).items()}, "flat, as its reader wants"
    assert 4 * LARGEST_IMAGE_MIB <= int(settings["PINAIVU_MEMORY_MIB"]) <= int(allocator["memory_mib"])
    assert int(settings["PINAIVU_CPU_COUNT"]) <= int(allocator["cpu_count"])
    assert int(allocator["cpu_count"]) % 2 == 0, "whole cores"
    assert text.startswith("---\n")


class Started:
    """`run-enclave` as it runs, with a nitro-cli that is not the real one."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.calls, self.running = process, folder / "calls", folder / "running"

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def until_watching(self) -> None:
        while not any(call == "describe-enclaves" for call in self.called()[2:]):
            assert self.process.poll() is None


@contextmanager
def started_in(folder: Path) -> Iterator[Started]:
    (folder / "nitro-cli").write_text(NITRO_CLI)
    (folder / "nitro-cli").chmod(0o755)
    (folder / "calls").touch()
    environment = os.environ | enclave_settings() | {
        "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), "RUNNING": str(folder / "running"),
        "PINAIVU_POLL_SECONDS": "0.01",
    }  # fmt: skip
    with subprocess.Popen([str(DEPLOY / "run-enclave")], env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Started(process, folder)
        finally:
            process.kill()


def test_the_enclave_is_started_as_the_unit_says_and_never_in_debug_mode(tmp_path: Path) -> None:
    with started_in(tmp_path) as started:
        started.until_watching()
        (call,) = [call for call in started.called() if call.startswith("run-enclave")]
    assert call == (
        "run-enclave --enclave-name pinaivu --eif-path /opt/pinaivu/image/pinaivu.eif "
        "--cpu-count 2 --memory 1024 --enclave-cid 16"
    )


def test_when_the_enclave_ends_the_script_fails_so_that_systemd_starts_it_again(tmp_path: Path) -> None:
    with started_in(tmp_path) as started:
        started.until_watching()
        started.running.unlink()
        assert started.process.wait() == 1
        assert started.process.stderr is not None
        assert started.process.stderr.read() == "the enclave has ended\n"
    assert unit(UNITS[0])["Service"]["Restart"] == "always"


def test_a_stop_ends_the_enclave(tmp_path: Path) -> None:
    with started_in(tmp_path) as started:
        started.until_watching()
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait() == 0
        assert started.called()[-1] == "terminate-enclave --enclave-name pinaivu"


def test_an_enclave_that_was_left_behind_is_ended_before_another_is_started(tmp_path: Path) -> None:
    (tmp_path / "running").touch()
    with started_in(tmp_path) as started:
        started.until_watching()
        names = [call.split()[0] for call in started.called()]
    assert names[:3] == ["describe-enclaves", "terminate-enclave", "run-enclave"]


def test_compose_runs_the_host_as_its_unit_does() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["host"]
    command, given = host_command(), service["environment"]
    for name in ("listen", "enclave", "kms-listen", "configuration"):
        assert given[f"PINAIVU_{name.upper().replace('-', '_')}"] == flag(command, f"--{name}")
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile.host"
    assert given["PINAIVU_ADMIN_KEY_FILE"] == f"/run/secrets/{service['secrets'][0]}"
    volume = dict(stages("Dockerfile.host")[-1])["VOLUME"]
    assert service["volumes"][0].split(":")[1] == json.loads(volume)[0]


def test_compose_gives_the_host_vsock_and_no_privilege() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["host"]
    assert service["devices"] == ["/dev/vsock"]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


def statements(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DEPLOY / "iam" / name).read_text())["Statement"]
    return found


def test_the_instances_role_is_allowed_nothing_and_kept_from_kms_but_for_attested_calls() -> None:
    """The key's own policy is what lets the enclave in; another permission would be another door."""
    others, unattested = statements("role-policy.json")
    assert (others["Effect"], unattested["Effect"]) == ("Deny", "Deny")
    assert others["NotAction"] == unattested["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert unattested["Condition"] == {"Null": {"kms:RecipientAttestation:PCR0": "true"}}


def test_only_instances_take_the_role() -> None:
    (statement,) = statements("trust-policy.json")
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
