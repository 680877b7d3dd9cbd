"""What holds for all tests: how many examples properties have, and whose log lines nobody wants.

Property tests have no time limit; `HYPOTHESIS_PROFILE=ci` makes them many and the same every time.
"""

import logging
import os

from hypothesis import settings

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, max_examples=1000, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# An engine that lives in this process serves other programs all the time. pytest also hears loggers that do not
# propagate, so its lines would stand among those of whichever test runs.
logging.getLogger("uvicorn.access").disabled = True
