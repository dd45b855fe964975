"""What locust loads: it finds users by looking for classes in a file. Here they were made before, of the journeys that pytest found."""

from stormwatch.journeys.load_process import OFFERED

globals().update(OFFERED)
