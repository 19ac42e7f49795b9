"""Settings of property tests that write files."""

from hypothesis import HealthCheck, Phase, settings

# No explaining phase: a failing example is small enough to read, and every run fsyncs.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
QUIET = settings(
    deadline=None,
    max_examples=60,
    phases=PHASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
