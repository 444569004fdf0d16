"""Both sessions."""

import pytest

from lazyfs.daemon.session_choice import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of session in turn."""
    found: str = request.param
    return found
