"""What holds for all tests."""

from hypothesis import settings

# No test is timed: machines are noisy.
settings.register_profile("tritonlab", deadline=None)
settings.load_profile("tritonlab")
