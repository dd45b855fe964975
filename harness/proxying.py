"""`stormwatch proxy`: the routes of the configuration, served until a signal."""

from collections.abc import Callable

from stormwatch.chaos.control import Serving, serve_proxy
from stormwatch.harness.config import Config
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.stop import stop_on_signals


async def command(config: Config, say: Callable[[str], None], *, toxiproxy: str = "") -> int:
    """Serve; at `toxiproxy` Toxiproxy's API too, which may open routes of its own. Raises Problem."""
    if not config.proxies.routes and not toxiproxy:
        raise Problem(f"{config.path}: there are no routes in it; add them under `proxies: {{routes: …}}`")

    def ready(serving: Serving) -> None:
        for route in config.proxies.routes:
            say(f"{route.name}: {serving.routes[route.name]} passes on to {route.upstream}")
        say(f"control API at {serving.control}")
        if serving.toxiproxy:
            say(f"Toxiproxy's API at {serving.toxiproxy}")

    try:
        await serve_proxy(
            config.proxies.routes, config.proxies.control, stop=stop_on_signals(), ready=ready, toxiproxy=toxiproxy
        )
    except (OSError, ValueError) as error:
        raise Problem(f"the fault proxy cannot be served: {error}") from error
    say("stopped: every fault is taken back")
    return Exit.GOOD
