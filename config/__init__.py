"""Data only: the starter configuration, examples, the JSON Schema. This file makes them findable once installed."""
