"""Property tests have no time limit; `HYPOTHESIS_PROFILE=ci` makes them many and the same every time.

`.pytest_cache/v/pinaivu/running` names the test that runs, for whoever finds a run that did not end.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=1000, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    assert item.config.cache is not None
    item.config.cache.set("pinaivu/running", item.nodeid)
