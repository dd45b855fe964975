"""One process of the sample platform: `python -m stormwatch.demo.serve NAME`, told everything by its environment.

LISTEN        127.0.0.1:8443
DNS_SERVER, CERTIFICATE, KEY, CA, DATABASE, and NAME_URL for each service that it needs or embeds     a service
PLANTED       optional, of a service: the directory of the failures that it is to show
ROUTES, CONTROL     the file of the routes, the address of the control API                  the proxy
SUPERVISOR    optional: the process without which this one has no reason to live
"""

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from stormwatch.demo.estate import SERVICES, ZONE, check_environ, read_address
from stormwatch.demo.process import die_with


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM. Exit code 0; 1 when it cannot be served; 2 for a wrong name."""
    names = ["dns", "proxy", *SERVICES]
    if len(arguments) != 1 or arguments[0] not in names:
        print(f"usage: python -m stormwatch.demo.serve {{{','.join(names)}}}", file=sys.stderr)  # noqa: T201 - usage
        return 2
    if environ.get("SUPERVISOR"):
        die_with(int(environ["SUPERVISOR"]))
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    name = arguments[0]
    try:
        if name == "dns":
            asyncio.run(_serve_dns(environ))
        elif name == "proxy":
            asyncio.run(_serve_proxy(environ))
        else:
            _serve(name, environ)
    except (OSError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - the only output of a program that could not start
        return 1
    return 0


async def _serve_dns(environ: Mapping[str, str]) -> None:
    from stormwatch.demo.nameserver import serve_zone, zone_of

    check_environ(environ, ("LISTEN",))
    await serve_zone(zone_of(ZONE, SERVICES), *read_address(environ["LISTEN"]), stop=_stopped_by_signal())


async def _serve_proxy(environ: Mapping[str, str]) -> None:
    from pydantic import TypeAdapter

    from stormwatch.chaos.control import serve_proxy
    from stormwatch.chaos.route import Route

    check_environ(environ, ("ROUTES", "CONTROL"))
    documents = json.loads(Path(environ["ROUTES"]).read_text())  # noqa: ASYNC240 - nothing is served yet
    routes = TypeAdapter(list[Route]).validate_python(documents)
    await serve_proxy(routes, environ["CONTROL"], stop=_stopped_by_signal())


def _stopped_by_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _serve(name: str, environ: Mapping[str, str]) -> None:
    import uvicorn

    from stormwatch.demo.service import Settings

    settings = Settings.from_environ(name, environ)
    module = importlib.import_module(f"stormwatch.demo.{'gateway' if name == 'shop' else name}")
    host, port = settings.listen
    server = uvicorn.Server(
        uvicorn.Config(
            module.service(settings),
            host=host,
            port=port,
            ssl_certfile=str(settings.certificate),
            ssl_keyfile=str(settings.key),
            loop="asyncio",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=1,
        )
    )
    server.run()
    if not server.started:
        raise OSError(f"could not listen on {host}:{port}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
