"""`artifacts:` in the configuration: how old and how large what journeys keep may become, all of it and each journey's."""

from collections.abc import Iterable

from stormwatch.harness.entry import ArtifactsEntry
from stormwatch.journeys.journey import JourneyOptions, folder_of, limits_of
from stormwatch.journeys.retention import Limits, Retention
from stormwatch.probes.probe import Probe


def retention_of(entry: ArtifactsEntry, probes: Iterable[Probe]) -> Retention:
    """What the directory of artifacts is held to."""
    return Retention(
        total=Limits(seconds=entry.max_age, bytes=entry.max_size),
        journeys={
            folder_of(probe.name): limits_of(probe.settings)
            for probe in probes
            if isinstance(probe.settings, JourneyOptions)
        },
    )
