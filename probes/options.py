"""What the option classes of all kinds share: strictness, and the kinds of text that the configuration treats apart."""

from typing import Annotated, Final

from pydantic import ConfigDict, Field

STRICT: Final = ConfigDict(extra="forbid")
"""For `__pydantic_config__`: unknown keys are mistakes, and the docstring under a field is its description."""

Secret = Annotated[str, Field(json_schema_extra={"writeOnly": True})]
"""A text that is only written as `${env:NAME}` or `${file:PATH}`, and masked wherever options are shown."""

File = Annotated[str, Field(json_schema_extra={"format": "path"})]
"""The name of a file; a relative one counts from the directory of the configuration."""
