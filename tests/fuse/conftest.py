"""The fixture that runs a test with each of the two sessions."""

import pytest

from lazyfs.daemon.session_choice import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Returns the kind of session; a test runs once with each kind."""
    found: str = request.param
    return found
