"""Nothing beside the measured image and configuration reaches the enclave's program: no switch to find."""

import ast
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import pinaivu_enclave
from pinaivu_shared.configuration import Configuration, JobLimits, KmsTerms, MeteringLimits, ModelTerms, NodeTerms

MODULES = sorted(Path(pinaivu_enclave.__file__).parent.rglob("*.py"))
OUTSIDE = {"environ", "environb", "getenv", "getenvb", "argv", "orig_argv", "warnoptions"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: "-".join(path.parts[-2:]))
def test_no_module_of_the_enclave_reads_environment_or_arguments(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in OUTSIDE, f"line {node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert not OUTSIDE & {name.name for name in node.names}, f"line {node.lineno}"


def test_the_program_does_not_even_import_what_reads_flags() -> None:
    code = "import sys, pinaivu_enclave.program; print(*sorted(sys.modules))"
    ended = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    loaded = set(ended.stdout.split())
    assert "pinaivu_enclave.kms.vault" in loaded
    assert not loaded & {"argparse", "optparse", "getopt", "pinaivu_shared.flags", "pinaivu_shared.cli"}
    assert not {name for name in loaded if name.startswith(("pinaivu_simulator", "pinaivu_host", "pinaivu_node"))}


def test_the_configuration_has_these_keys_and_no_other() -> None:
    """Whoever adds one says here what it is, and that it turns no check off."""
    keys: dict[type[msgspec.Struct], str] = {
        Configuration: "version platform origin kms models fee_bps operator_key nodes jobs metering quote_lifetime_ms"
        " max_nodes max_open_jobs witnesses quorum",
        KmsTerms: "key_arn tls_root",
        ModelTerms: "model input_reserve_price output_reserve_price expected_completion_tokens context_length_max",
        NodeTerms: "prior_bps probation_slots suspension_ms statement_period_ms",
        JobLimits: "attempts first_token_ms duration_ms",
        MeteringLimits: "completion_allowance template_allowance recount_tolerance_bps",
    }
    for shape, expected in keys.items():
        assert [field.name for field in msgspec.structs.fields(shape)] == expected.split(), shape.__name__
