"""Browser and API journeys: ordinary pytest tests, run in CI and, by warm workers, on schedule."""
