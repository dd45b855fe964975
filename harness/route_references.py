"""`proxies: routes: serves:` in the configuration: who needs what stands behind a route."""

from collections.abc import Collection, Iterable

from stormwatch.chaos.route import Route
from stormwatch.harness.draft import Draft


def check_serves(draft: Draft, routes: Iterable[Route], known: Collection[str]) -> None:
    """Complain about names that are neither a probe nor an objective."""
    for index, route in enumerate(routes):
        for number, name in enumerate(route.serves):
            place = ("proxies", "routes", index, "serves", number)
            draft.refer(name, known, place, "objective or probe")
