"""docs/deploy.md: its configuration is one, its commands exist, its messages are ours, and what can run here runs.

`aws` is held against the service models of botocore, which its command line is generated from.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import msgspec
import pytest
from botocore import xform_name
from tests.docs.conftest import Service
from tests.docs.pages import DOCS, ROOT, blocks, section
from tests.docs.shell import run_blocks

from pinaivu_shared.attestation.policy import configuration_pcr
from pinaivu_shared.configuration import Configuration, canonical_configuration, parse_configuration
from pinaivu_shared.wire.ports import HEARTBEAT_PORT, KMS_PORT, LINK_PORT
from pinaivu_simulator.market import NO_OPERATOR

PAGE = DOCS / "deploy.md"
TEXT = PAGE.read_text()
PROGRAMS = (".venv/bin/pinaivu", "/opt/pinaivu/venv/bin/pinaivu")
ARN = "arn:aws:iam::111122223333"
PCRS = {"Measurements": {f"PCR{index}": f"{index + 1:02x}" * 48 for index in range(3)}}


def commands(text: str, program: str) -> Iterator[list[str]]:
    """The words behind `program`, for each of its calls in the page's shell blocks."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(re.sub(r" [<>|&] ?.*", "", line) if "pinaivu" in line else line)
            for place, word in enumerate(words):
                if word == program:
                    yield words[place + 1 :]


def flags(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


def test_the_configuration_and_the_policy_come_out_of_the_pages_own_commands(tmp_path: Path) -> None:
    (readable,) = blocks(TEXT, "json")
    (block,) = [block for block in blocks(TEXT, "sh") if "kms-policy --pcrs" in block]
    (tmp_path / "configuration.json").write_text(readable)
    (tmp_path / "pcrs.json").write_text(json.dumps(PCRS))
    roles = {"ROLE_ARN": f"{ARN}:role/pinaivu-host", "ADMINISTRATOR_ARN": f"{ARN}:role/keeper"}
    ended = run_blocks([block], tmp_path, roles)
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 1)
    assert f"{ARN}:role/keeper alone may change this policy" in ended.stderr
    raw = canonical_configuration((tmp_path / "configuration.json").read_bytes())
    assert parse_configuration(raw).platform == "nitro"
    policy = (tmp_path / "kms-policy.json").read_text()
    assert configuration_pcr(raw).hex() in policy
    assert f"{ARN}:role/pinaivu-host" in policy


def test_without_an_administrator_in_its_variable_no_policy_is_written(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(TEXT, "sh") if "kms-policy --pcrs" in block]
    for given in ({}, {"ADMINISTRATOR_ARN": ""}):
        ended = run_blocks([block], tmp_path, {"ROLE_ARN": f"{ARN}:role/pinaivu-host", **given})
        assert ended.returncode != 0
        assert "ADMINISTRATOR_ARN" in ended.stderr
    assert not (tmp_path / "kms-policy.json").exists() or not (tmp_path / "kms-policy.json").read_text()


def fields_of(kind: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        yield field.name


def test_every_key_of_the_configuration_is_explained() -> None:
    (readable,) = blocks(TEXT, "json")
    table = section(PAGE, "3. The key and the configuration, on your own machine").split("| key | means |")[1]
    shown = json.loads(readable)
    assert set(shown) == set(fields_of(Configuration))
    nested = [*shown["kms"], *shown["models"][0], *shown["nodes"], *shown["jobs"], *shown["metering"]]
    for name in {*shown, *nested} - {"model", "kms"}:
        assert re.search(rf"`([a-z]+\.)?{name}`", table), name


@pytest.mark.parametrize("subject", ["deploy", "audit", "auction", "operators"])
def test_every_pinaivu_command_and_flag_exists(subject: str) -> None:
    text = (DOCS / f"{subject}.md").read_text()
    page = (DOCS / "cli.md").read_text()
    known = dict(re.findall(r"^## pinaivu ([a-z -]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    found = [words for path in PROGRAMS for words in commands(text, path)]
    assert found
    for words in found:
        name = next(name for name in (" ".join(words[:2]), words[0]) if name in known)
        for flag in flags(words):
            assert re.search(rf"^  {flag}\b", known[name], re.MULTILINE), f"pinaivu {name} has no {flag}"


def test_every_aws_command_and_flag_exists() -> None:
    found = list(commands(TEXT, "aws"))
    assert len(found) > 5
    session = botocore.session.get_session()
    for service, operation, *words in found:
        model = session.get_service_model(service)
        names = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(names[operation]).input_shape
        assert shape is not None
        known = {f"--{xform_name(member, '-')}" for member in shape.members}
        assert flags(words) <= known, f"aws {service} {operation}"
        required = {f"--{xform_name(member, '-')}" for member in shape.required_members} - {
            "--min-count",
            "--max-count",
        }
        assert required <= flags(words), f"aws {service} {operation}"


def test_every_file_that_is_installed_is_there() -> None:
    named = set(re.findall(r"\bdeploy/[A-Za-z0-9./-]+[a-z]", TEXT))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_ports_are_those_of_the_code() -> None:
    text = section(PAGE, "4. Start, on the instance")
    for port in (LINK_PORT, KMS_PORT, HEARTBEAT_PORT):
        assert re.search(rf"port {port}\b", text)


def test_the_messages_that_are_explained_are_ours() -> None:
    table = section(PAGE, "What errors mean").split("| the host's log says |")[1].split("| a verifier says |")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    named = [text for row in rows for text in re.findall(r"`([^`]+)`", row)]
    ours = "".join(path.read_text() for part in ("host", "enclave", "shared") for path in (ROOT / part).rglob("*.py"))
    kernels = {"No such device", "Connection reset by peer"}
    listening = "cannot listen at vsock:5001"  # the address is the flag's
    assert kernels | {listening} < set(named)
    assert "cannot listen at {address.text}" in ours
    either = ("nitro or qemu", "{' or '.join(sorted(self._platform.names))}")
    for text in set(named) - kernels - {listening}:
        assert text in ours or text.replace(*either) in ours, text


def test_the_messages_of_a_verifier_that_are_explained_are_ours() -> None:
    table = section(PAGE, "What errors mean").split("| a verifier says |")[1]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    named = {text for row in rows for text in re.findall(r"`([^`]+)`", row)} - {"PCR0", "PCR1", "PCR2"}
    assert len(named) > 4
    ours = "".join(path.read_text() for path in (ROOT / "shared").rglob("*.py")).replace("{{", "{").replace("}}", "}")
    assert [text for text in named if text not in ours] == []


def test_every_variable_of_the_commands_is_explained() -> None:
    commands_of_the_page = "\n".join(blocks(TEXT, "sh"))
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]*)", commands_of_the_page))
    made = set(re.findall(r"^([A-Z][A-Z_]*)=", commands_of_the_page, re.MULTILINE))
    (table,) = re.findall(r"^\| variable \| is \|\n(.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL)
    explained = {name for row in table.splitlines() for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert explained == used - made


def steps_of_an_installation(text: str) -> list[str]:
    """What pip is asked, and what of the development lock is chosen for it, wherever the environments are."""
    lines = re.sub(r"\s*\\\n\s*", " ", text)
    asked = re.findall(r"/pip ((?:install|wheel|check)\b[^&\n]*|check)", lines.replace("--no-cache-dir ", ""))
    return [*re.findall(r"awk '[^']+' \S+", lines), *(one.replace("/opt/packing", "packing").strip() for one in asked)]


def test_the_instance_installs_the_host_as_its_dockerfile_does() -> None:
    found = steps_of_an_installation("\n".join(blocks(TEXT, "sh")))
    assert len(found) == 6
    assert found == steps_of_an_installation((ROOT / "Dockerfile.host").read_text())


def test_the_page_names_no_size_of_the_image_which_changes() -> None:
    memory = section(PAGE, "2. Role, instance and packages").split("**Memory**")[1].split("\n\n")[0]
    assert "make bench-image" in memory
    assert re.findall(r"[0-9.]+ Mi?B", memory) == ["1024 MiB"], "of the units"


def test_waiting_for_the_service_ends_when_it_is_ready(service: Service, tmp_path: Path) -> None:
    (block,) = [block for block in blocks(TEXT, "sh") if "readyz" in block]
    ended = run_blocks([block.replace("http://127.0.0.1:8080", service.given["SERVICE"])], tmp_path, {})
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["nodes"] == 1


def test_credit_trust_file_request_and_receipt_come_out_of_the_pages_own_commands(
    service: Service, tmp_path: Path
) -> None:
    service.write_pcrs(tmp_path)
    for name in ("operator.key", "configuration.json"):
        shutil.copy(service.folder / name, tmp_path)
    section_five = blocks(section(PAGE, "5. Account, trust file, node, request"), "sh")
    here = [block for block in section_five if not block.startswith(("sudo", ".venv/bin/pinaivu node"))]
    assert len(here) == len(section_five) - 2
    run = [block.replace("http://127.0.0.1:8080", service.given["SERVICE"]) for block in here]
    ended = run_blocks(run, tmp_path, service.given | service.operators | service.simulated)
    assert ended.returncode == 0, ended.stderr
    assert '"amount":"10.000000","fund":"deposits"' in ended.stdout
    assert '"state":"recorded"' in ended.stdout
    assert "outcome              completed" in ended.stdout


def test_the_operators_key_of_the_page_is_nobodys() -> None:
    """Whoever forgets to put in his own gives credit to nobody, and nobody else does."""
    (readable,) = blocks(TEXT, "json")
    assert bytes.fromhex(json.loads(readable)["operator_key"]) == NO_OPERATOR
