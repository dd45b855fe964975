"""What an activity returned, compared with its tolerance, whoever has to be asked for that."""

from collections.abc import Mapping
from typing import Any

from stormwatch.chaos.experiment import Activity, Asked
from stormwatch.chaos.experiment_provider import Answer, Ending, call
from stormwatch.chaos.experiment_tolerance import Met, decided, meets, show
from stormwatch.chaos.experiment_variables import Variables


async def compared(activity: Activity, answer: Answer, variables: Variables, **place: str) -> Met | None:
    """Whether it is within its tolerance; None when it has none, or returned nothing. `place` is that of `call`."""
    tolerance = activity.tolerance
    if tolerance is None or answer.ending is not Ending.SUCCEEDED:
        return None
    if isinstance(tolerance, Asked):
        probe, value = tolerance.probe, _plain(answer.output)
        said = await call(probe, variables, extra={"value": value}, **place)
        met = said.ending is Ending.SUCCEEDED and decided(probe.provider, said.output)
        return Met(met, f"{probe.name} says so", said.why or show(said.output))
    try:
        return meets(tolerance, answer.output, variables)
    except Exception as error:  # noqa: BLE001 - a value that a tolerance cannot read is not within it
        return Met(False, "a value to compare", f"{type(error).__name__}: {error}")


def _plain(output: Any) -> Any:
    return dict(output) if isinstance(output, Mapping) else output
