"""Settings of all tests: Hypothesis without time limits (kernels compile in the first example), seeded in CI."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data beside the repository; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real market data is not there: {SHARED / 'data'}")
    return SHARED / "data"
