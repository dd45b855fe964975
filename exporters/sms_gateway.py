"""A gateway that sends text messages: where it is, what is posted to it, what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Encoding = Literal["json", "form"]

FIELDS: Mapping[str, str] = {"to": "{{ number }}", "from": "{{ sender }}", "text": "{{ text }}"}
"""What is posted unless the configuration says otherwise."""
NAMES = frozenset({"number", "sender", "text", "reference"})
"""What the fields may say."""
ANSWER_ID = "sid || id || message_id || messageId || messages[0].id || messages[0].messageId || messages[0].message_id"
"""Where gateways put the id of what they took, as JMESPath."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Where text messages are handed over, and how."""

    url: str = field(repr=False)
    token: str = field(default="", repr=False)
    """Sent as `Authorization: Bearer …`; empty: it is not."""
    username: str = ""
    password: str = field(default="", repr=False)
    encoding: Encoding = "json"
    fields: Mapping[str, str] = field(default_factory=lambda: FIELDS)
    """What is posted: a template for each field."""
    answer_id: str = ANSWER_ID
    """Where the gateway says the id of the message, as JMESPath."""
