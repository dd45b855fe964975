"""Gateways of SMS: one that speaks JSON and knows a token, one that speaks forms and knows a login. A message has 160 septets."""

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

from tests.servers.service import Answer, AnyService, Request

TOKEN = "sms-canary-77f0"
ACCOUNT, PASSWORD = "AC0123", "sms-canary-b1d4"
ALPHABET = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "^{}\\[~]|€"


class SmsGateway(AnyService):
    """`messages` are (number, text) of what was taken; one that is repeated with its idempotency key is taken once."""

    def __init__(self, *, form: bool = False) -> None:
        """`form`: fields To, From and Body with a login, otherwise JSON with a token."""
        self.messages: list[tuple[str, str]] = []
        self.refused: frozenset[str] = frozenset()
        """Numbers that it does not tell."""
        self.before: list[Answer] = []
        """What is answered first, before anything is understood."""
        self._form = form
        self._keys: dict[str, str] = {}
        super().__init__(decide=self._take)

    def _take(self, request: Request) -> Answer:
        if self.before:
            return self.before.pop(0)
        if request.headers.get("authorization") != self._login():
            return Answer(401, '{"code": 20003, "message": "Authenticate"}')
        number, text = self._read(request)
        if number in self.refused:
            return Answer(400, f'{{"code": 21211, "message": "{number} is no number"}}')
        if parts(text) != 1:
            return Answer(400, '{"code": 21617, "message": "the text is longer than one message"}')
        key = request.headers.get("idempotency-key", "")
        if not key or key not in self._keys:
            self.messages.append((number, text))
            self._keys[key] = f"SM{len(self.messages):08d}"
        return Answer(201, json.dumps({"sid": self._keys[key], "status": "queued"}))

    def _login(self) -> str:
        if not self._form:
            return f"Bearer {TOKEN}"
        return f"Basic {base64.b64encode(f'{ACCOUNT}:{PASSWORD}'.encode()).decode()}"

    def _read(self, request: Request) -> tuple[str, str]:
        if self._form:
            values: dict[str, Any] = dict(parse_qsl(request.body.decode()))
            return values.get("To", ""), values.get("Body", "")
        return request.json["to"], request.json["text"]


def parts(text: str) -> int:
    """How many messages of the network a text takes; 0 for one that is not in its alphabet."""
    if not text or any(sign not in ALPHABET + EXTENSION for sign in text):
        return 0
    septets = sum(2 if sign in EXTENSION else 1 for sign in text)
    return 1 if septets <= 160 else -(-septets // 153)
