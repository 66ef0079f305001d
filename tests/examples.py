"""How many examples the property tests and the seeded mutation tests try, by the environment variable HYPOTHESIS_PROFILE.

`dev` (make check) tries fewer than usual, `fuzz` (make fuzz, about an hour) many more; without a profile it is as many
as each test asks for.
"""

import os
from typing import Any

from hypothesis import settings

FACTORS = {"dev": 0.2, "default": 1.0, "fuzz": 100.0}
FEWEST = 5

profile = os.environ.get("HYPOTHESIS_PROFILE", "default")
if profile not in FACTORS:
    raise ValueError(f"HYPOTHESIS_PROFILE={profile} is none of {', '.join(FACTORS)}")


def many(count: int) -> int:
    """`count` as the profile would have it."""
    return max(min(count, FEWEST), round(count * FACTORS[profile]))


def examples(count: int, **options: Any) -> settings:
    """For a property test: so many examples, in any time."""
    return settings(max_examples=many(count), deadline=None, **options)


def load_profile() -> None:
    """For the property tests that say nothing of their own."""
    if profile != "default":
        settings.register_profile(profile, max_examples=many(100), deadline=None)
        settings.load_profile(profile)
