"""What holds for all tests: how many examples properties have, whose log lines nobody wants, where leaks are told.

Property tests have no time limit; `HYPOTHESIS_PROFILE=ci` makes them many and the same every time.
"""

import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=1000, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# An engine that lives in this process serves other programs all the time. pytest also hears loggers that do not
# propagate, so its lines would stand among those of whichever test runs.
logging.getLogger("uvicorn.access").disabled = True


@pytest.fixture(scope="module", autouse=True)
def leaks_are_told_here() -> Iterator[None]:
    """What the tests of a file leave open is told there, not in whichever test the garbage collector runs."""
    yield
    gc.collect()
