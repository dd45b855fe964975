"""What tells a Grafana where our dashboards are and which Prometheus they read: its provisioning files."""

from pathlib import PurePath
from typing import Any

FOLDER = "stormwatch"
"""The folder that the dashboards have in Grafana."""
DIRECTORY = PurePath("/var/lib/grafana/dashboards/stormwatch")
"""Where Grafana reads the dashboards from when nobody says otherwise: below the data of Debian's and Docker's Grafana."""
PROMETHEUS = "http://127.0.0.1:9090"
DATASOURCE_UID = "stormwatch-prometheus"
SCRAPE_INTERVAL = "15s"
"""That of `stormwatch rules --for scrape`. Grafana makes `$__rate_interval` four times it at least, so rates see two scrapes."""


def datasource(prometheus: str = PROMETHEUS) -> dict[str, Any]:
    """For `provisioning/datasources/`. `prometheus` is its address as the Grafana server reaches it."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus (stormwatch)",
                "uid": DATASOURCE_UID,
                "type": "prometheus",
                "access": "proxy",
                "url": prometheus,
                "jsonData": {"httpMethod": "POST", "prometheusType": "Prometheus", "timeInterval": SCRAPE_INTERVAL},
            }
        ],
    }


def provider(directory: PurePath = DIRECTORY) -> dict[str, Any]:
    """For `provisioning/dashboards/`. `directory` holds the dashboards, as the Grafana server sees it."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "stormwatch",
                "folder": FOLDER,
                "type": "file",
                # What is changed in the browser would be lost at the next upgrade; a copy under another uid is kept.
                "allowUiUpdates": False,
                "disableDeletion": False,
                "updateIntervalSeconds": 30,
                "options": {"path": str(directory), "foldersFromFilesStructure": False},
            }
        ],
    }
