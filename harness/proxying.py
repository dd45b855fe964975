"""`stormwatch proxy`: the routes of the configuration, served until a signal."""

from collections.abc import Callable

from stormwatch.chaos.control import Serving, serve_proxy
from stormwatch.harness.config import Config
from stormwatch.harness.problem import Exit, Problem
from stormwatch.harness.stop import stop_on_signals


async def command(config: Config, say: Callable[[str], None]) -> int:
    """Serve. Raises Problem for an address that cannot be had."""
    if not config.proxies.routes:
        raise Problem(f"{config.path}: there are no routes in it; add them under `proxies: {{routes: …}}`")

    def ready(serving: Serving) -> None:
        for route in config.proxies.routes:
            say(f"{route.name}: {serving.routes[route.name]} passes on to {route.upstream}")
        say(f"control API at {serving.control}")

    try:
        await serve_proxy(config.proxies.routes, config.proxies.control, stop=stop_on_signals(), ready=ready)
    except (OSError, ValueError) as error:
        raise Problem(f"the fault proxy cannot be served: {error}") from error
    say("stopped: every fault is taken back")
    return Exit.GOOD
