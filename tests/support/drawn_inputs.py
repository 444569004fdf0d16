"""The inputs that Hypothesis draws: in the ordinary tier the same ones in each run, in the long tier and in
fuzzing new ones.

The ordinary tier shows whether a change breaks something. What a search found in it would be no fault of the
change.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.support import fuzzing
from tests.support.counts import count

SEARCHING = count(False, True) or bool(fuzzing.SECONDS)


def load_profile() -> None:
    """Makes the settings that each Hypothesis test begins with. No limits of time: the machine may be busy,
    and counts bound the work."""
    settings.register_profile(
        "tier", derandomize=not SEARCHING, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("tier")
    if not SEARCHING:
        # Hypothesis also draws the constants in the modules that are loaded: other tests, or a change
        # elsewhere, would change a test's inputs. There is no setting against that.
        pytest.MonkeyPatch().setattr(providers, "_get_local_constants", Constants)
