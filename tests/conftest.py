"""What holds for every test: generated examples are judged by what they show, not by how fast a busy machine makes them."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")
