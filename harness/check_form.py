"""How `stormwatch check` prints what it saw."""

from enum import StrEnum


class Form(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"
    GITHUB = "github"
