"""docs/operators.md: its commands run, its file is a configuration, its numbers and reasons are those of the code."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest
import trio
from tests.docs.pages import DOCS, blocks, section
from tests.docs.shell import run_blocks, running_blocks
from tests.network.conftest import Description, http, running

from pinaivu_node.engines.child import running_child
from pinaivu_node.engines.choice import parse_engine
from pinaivu_node.reasons import MEANINGS
from pinaivu_node.settings import load_settings
from pinaivu_shared import quality
from pinaivu_shared.configuration import NodeTerms
from pinaivu_shared.leaves import SuspensionLeaf
from pinaivu_shared.terms import Capability
from pinaivu_shared.wire.node import DeclineReason
from pinaivu_simulator.market import Periods
from pinaivu_simulator.network import NetworkPlan, running_network
from pinaivu_simulator.ports import free_port

PAGE = DOCS / "operators.md"
TEXT = PAGE.read_text()
QUALITY = section(PAGE, "Quality, and why it moves")
SETUP, START, STATUS = blocks(section(PAGE, "From nothing to earning"), "sh")
(STATEMENTS,) = blocks(section(PAGE, "Statements and payouts"), "sh")
BODY = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}


class Operator:
    """Somebody who follows the page, in a folder of their own."""

    def __init__(self, folder: Path, given: dict[str, str]) -> None:
        self.folder, self.given = folder, given

    async def attempt(self, *commands: str) -> subprocess.CompletedProcess[str]:
        return await trio.to_thread.run_sync(run_blocks, commands, self.folder, self.given)

    async def run(self, *commands: str) -> str:
        """What the commands print; they must succeed."""
        ended = await self.attempt(*commands)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    async def report(self) -> dict[str, Any]:
        """What the enclave said last; empty while there is nothing."""
        ended = await self.attempt(".venv/bin/pinaivu node status --json")
        heard = json.loads(ended.stdout)["heard"] if ended.returncode == 0 else None
        return heard["report"] if heard else {}


@pytest.mark.trio
async def test_the_commands_lead_from_nothing_to_a_verified_statement(tmp_path: Path) -> None:
    assert SETUP == "make setup\n"
    plan = NetworkPlan(
        port=free_port(), folder=tmp_path / "market", nodes=1, engine="echo", periods=Periods(statement_period_ms=2000)
    )
    async with (
        running_network(plan) as network,
        running_child("pinaivu_node.engines.echo_server", ["--settings", "", "--exit-with-stdin"]) as engine,
    ):
        (tmp_path / "pcrs.json").write_bytes(network.data.pcrs.read_bytes())
        (tmp_path / "root.pem").write_text(network.data.pki().trust_root_pem)
        operator = Operator(
            tmp_path,
            {
                "SERVICE": network.base_url.removesuffix("/v1"),
                "OPERATOR": "alice",
                "ENGINE": engine.address,
                "MODELS": "echo",
                "PINAIVU_DATA_DIR": str(tmp_path / "node"),
                "PINAIVU_PLATFORM": "simulator",
                "PINAIVU_ROOT": "root.pem",
            },
        )
        with running_blocks([START], tmp_path, operator.given) as running:
            while not (await operator.report()).get("quotes"):
                assert running.poll() is None, "it ended; its log is above"
            await ask(network.base_url, network.data.api_key_file.read_text().strip())
            while not (await operator.report())["payable"]:
                assert running.poll() is None, "it ended; its log is above"
            shown = await operator.run(STATUS)
            assert "alice" in shown
            assert "answered" in shown
            assert re.search(r"valid +yes", await operator.run(STATEMENTS))
        while (ended := await operator.attempt(STATUS)).returncode == 0:
            pass  # it withdraws its quotes first
        assert (ended.returncode, "the node was stopped" in ended.stderr) == (1, True)


async def ask(base_url: str, api_key: str) -> None:
    """One job. The operator's node asks less than the market's own."""
    headers = {"authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60, trust_env=False) as client:
        assert (await client.post("/chat/completions", json=BODY)).status_code == 200


def test_the_file_with_several_engines_is_a_configuration(tmp_path: Path) -> None:
    (file,) = blocks(section(PAGE, "Several engines"), "toml")
    (tmp_path / "node.toml").write_text(file)
    settings = load_settings({}, tmp_path / "node.toml")
    first, second = settings.tariffs()
    assert first.prices("llama3.2:1b").input_price == second.input_price == 20_000
    assert first.prices("qwen3:4b").output_price == 120_000
    assert (first.slots, first.model_slots) == (8, {"qwen3:4b": 2})
    assert settings.all_engines()[1].offered() == ("gemma3:1b",)


def test_every_capability_is_explained() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", section(PAGE, "What your engine can do"), re.MULTILINE)
    assert sorted(re.findall(r"[a-z_]+", " ".join(rows))) == sorted(get_args(Capability))


def test_the_reasons_are_those_that_the_node_explains() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", section(PAGE, "What receipts say"), re.MULTILINE)
    assert dict(rows) == {reason: meaning for reason, meaning in MEANINGS.items() if reason}


def test_every_reason_of_the_market_is_explained() -> None:
    (suspension,) = (field for field in msgspec.structs.fields(SuspensionLeaf) if field.name == "reason")
    assert quality.NOT_THE_NODES_FAULT | {*get_args(DeclineReason), *get_args(suspension.type)} <= MEANINGS.keys()
    root = Path(__file__).parents[2]
    metering = (root / "enclave/pinaivu_enclave/core/metering.py").read_text()
    attempts = (root / "host/pinaivu_host/gateway/attempt.py").read_text()
    families = "usage|prompt|credit|no|not|nothing|empty|stopped|invalid|node|response"
    metered = set(re.findall(rf'"((?:{families})_[a-z_]+)"', metering))
    failed = set(re.findall(r'(?:_failure|AttemptFailedError)\("([a-z_]+)"\)', attempts))
    assert {"usage_missing", "prompt_cut", "credit_limit", "invalid_proof", "stopped_at_once"} <= metered
    assert {"timeout", "node_disconnected"} <= failed
    assert metered | failed <= MEANINGS.keys()


def per_cent(bps: int) -> str:
    return f"{bps // 100} %" if bps % 100 == 0 else f"{bps / 100:g} %"


@pytest.mark.parametrize(
    "said",
    [
        f"{per_cent(quality.GOOD_BPS)}, up to {per_cent(quality.PART_BPS)} for its time to the first token",
        f"and up to {per_cent(quality.PART_BPS)} for its speed after it",
        f"the median of the last {quality.MEDIAN_WINDOW} answers",
        f"{quality.GRACE_MS} ms more or less",
        f"answers of fewer than {quality.SPEED_TOKENS_MIN} tokens",
        f"never more than {per_cent(quality.STEP_BPS)} of 100 % at once",
    ],
)
def test_the_numbers_of_quality_are_those_of_the_code(said: str) -> None:
    assert said in " ".join(QUALITY.split())


def test_the_steps_of_quality_and_slots_are_as_they_are_told() -> None:
    assert "a sixteenth of the way" in QUALITY
    assert quality.moved_quality(5000, 5000 + 16 * 100) == 5000 + 100 + 1
    assert (quality.moved_slots(16, good=True), quality.moved_slots(16, good=False)) == (17, 16 - 2)
    assert (quality.moved_slots(3, good=False), quality.moved_slots(1, good=False)) == (2, 1)
    way_back = section(PAGE, "Suspension, and the way back")
    assert f"{quality.OFFENCES_MAX} doublings" in way_back
    assert quality.suspension_ms(1, 1) == 2
    assert quality.suspension_ms(1, quality.OFFENCES_MAX) == quality.suspension_ms(1, quality.OFFENCES_MAX + 1)


def test_the_keys_of_the_configuration_that_are_named_exist() -> None:
    named = set(re.findall(r"`nodes\.([a-z_]+)`", TEXT))
    assert named == {field.name for field in msgspec.structs.fields(NodeTerms)}


def test_every_file_of_the_folder_that_is_named_is_written_under_that_name() -> None:
    written = "".join(path.read_text() for path in (DOCS.parent / "node").rglob("*.py"))
    for name in ("status.json", "acknowledgements.jsonl"):
        assert f"`{name}`" in TEXT
        assert f'"{name}"' in written


def rehearsed(network: Description) -> str:
    """What the page sets for a rehearsal, at this network's own port and model."""
    (block,) = blocks(section(PAGE, "Rehearse it"), "sh")
    ours = {
        "http://127.0.0.1:8080": network["base_url"].removesuffix("/v1"),
        "ENGINE=embedded MODELS=pinaivu-tiny": "ENGINE=echo MODELS=echo",
    }
    for said, here in ours.items():
        assert said in block
        block = block.replace(said, here)
    return block


def test_the_rehearsal_on_a_simulated_network_ends_with_a_node_that_earns(tmp_path: Path) -> None:
    with running(tmp_path / ".pinaivu", "echo", nodes=1) as network:
        setting = rehearsed(network)
        exported = setting.splitlines()[-1]  # the lines before it write files, which the node's own shell does as well

        def report() -> dict[str, Any]:
            ended = run_blocks([exported, ".venv/bin/pinaivu node status --json"], tmp_path, {})
            heard = json.loads(ended.stdout)["heard"] if ended.returncode == 0 else None
            return heard["report"] if heard else {}

        with running_blocks([setting, START], tmp_path, {}) as node:
            while not report().get("quotes"):
                assert node.poll() is None, "it ended; its log is above"
            with http(network) as client:
                answer = client.post("/chat/completions", json=BODY)
                receipt = client.get(f"/receipts/{answer.headers['x-request-id']}").json()
            assert receipt["node_id"] == report()["node_id"], "the one that asks less"
    assert (tmp_path / ".pinaivu" / "rehearsal" / "node.key").exists()


def test_slots_that_are_not_given_or_0_are_the_engines_default(tmp_path: Path) -> None:
    told = " ".join(section(PAGE, "Quotes and prices").split())
    defaults = {engine: parse_engine(engine).default_slots for engine in ("embedded", "http://127.0.0.1:11434")}
    assert [*defaults.values()] == [int(one) for one in re.findall(r"default: (\d+) for .* (\d+) for", told)[0]]
    for engine, default in defaults.items():
        for slots in ("", "slots = 0\n"):
            file = f'engine = "{engine}"\n{slots}gateway = "http://h"\ntrust = "t"\noperator = "o"\n'
            (tmp_path / "node.toml").write_text(f"{file}input-price = 1\noutput-price = 1\n")
            (tariff,) = load_settings({}, tmp_path / "node.toml").tariffs()
            assert tariff.slots == default
