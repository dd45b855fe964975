"""What guests say of hotels: a script from another company, as many sites embed one. Nobody needs it to book."""

import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stormwatch.demo.database import open_database
from stormwatch.demo.service import Settings, build

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ratings (hotel TEXT PRIMARY KEY, stars REAL NOT NULL, guests INTEGER NOT NULL);
"""
_RATINGS = (
    ("pier-house", 4.6, 212),
    ("casa-do-vento", 4.4, 131),
    ("lighthouse-inn", 4.8, 96),
    ("seven-mountains", 4.5, 340),
    ("harbour-nine", 4.3, 187),
    ("elbe-terrace", 4.7, 158),
    ("the-breakwater", 3.9, 274),
    ("hotel-bora", 4.2, 119),
)


def service(settings: Settings) -> Starlette:
    """The service, from its settings."""
    database = open_database(settings.database, _SCHEMA)
    database.executemany("INSERT INTO ratings VALUES (?, ?, ?) ON CONFLICT DO NOTHING", _RATINGS)

    async def widget(_request: Request) -> Response:
        """The script, with the ratings in it: a site that embeds it needs no second request."""
        if settings.plants.has("third-party-down"):
            return Response("// down for maintenance\n", status_code=503, media_type="text/javascript")
        rows = database.execute("SELECT * FROM ratings").fetchall()
        ratings = {row["hotel"]: f"{row['stars']} of 5, by {row['guests']} guests" for row in rows}
        script = (Path(__file__).parent / "templates" / "widget.js").read_text()
        return Response(f"const ratings = {json.dumps(ratings)};\n{script}", media_type="text/javascript")

    return build(settings.name, [Route("/widget.js", widget)], database=database)
