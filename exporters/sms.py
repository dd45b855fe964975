"""SMS by a gateway that speaks HTTP: a POST for each number, JSON or a form, with the fields that the gateway wants.

A text message is told when an incident begins, when it begins again for somebody (a lapsed acknowledgement, a repeat, flapping)
and when it is over; what joins it meanwhile is told by the other channels. It is one message of the network each time: 160
characters of its alphabet (GSM 03.38), because two parts may arrive apart, cost twice, and not be read on a lock screen.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import jmespath
from jinja2 import TemplateError
from jmespath.exceptions import JMESPathError

from stormwatch.exporters.channel import TIMEOUT, Failed, Receipt, Refused, Sending, post, said_of
from stormwatch.exporters.message import Message, Why
from stormwatch.exporters.sms_gateway import NAMES, Gateway
from stormwatch.exporters.template import Line, TemplateMistake

LONGEST = 160
"""Septets of one message."""
LEAVES_OUT = frozenset({Why.NEWS, Why.ACKNOWLEDGED})
"""What is not worth a text message of an incident that was told."""
BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The alphabet of GSM 03.38: a septet each."""
EXTENDED = frozenset("^{}\\[~]|€\f")
"""Its extension: two septets each."""
_INSTEAD = {"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "▸": ">", "\t": " "}


class SmsChannel:
    """Some numbers, by one gateway."""

    pause = 0.2
    acknowledgements = False
    each_alert = False

    def __init__(self, name: str, gateway: Gateway, *, numbers: Sequence[str], sender: str = "") -> None:
        """`numbers` like +4915112345678. Raises TemplateMistake for a field that can never be used."""
        self.name = name
        self._gateway = gateway
        self._numbers = tuple(numbers)
        self._sender = sender
        self._fields = {name: Line(source, names=NAMES) for name, source in gateway.fields.items()}
        self._told: dict[tuple[str, str], str] = {}
        """Ids of what was taken, by reference and number, while others of the same message were not."""
        headers = {"Authorization": f"Bearer {gateway.token}"} if gateway.token else {}
        auth = (gateway.username, gateway.password) if gateway.username else None
        self._client = httpx.AsyncClient(timeout=TIMEOUT, headers=headers, auth=auth)

    async def send(self, sending: Sending) -> Receipt:
        """A request for each number that was not told yet: one that fails does not make the others hear it again."""
        text, troubles, refusals = text_of(sending), list[str](), list[str]()
        for number in self._numbers:
            reference = reference_of(sending.message, number)
            if (reference, number) in self._told:
                continue
            try:
                self._told[reference, number] = await self._one(sending, number, text, reference)
            except Refused as refusal:
                refusals.append(f"…{number[-3:]}: {refusal}")
            except Failed as failure:
                if failure.retry_after:
                    raise
                troubles.append(f"…{number[-3:]}: {failure}")
        if troubles:
            raise Failed("; ".join(troubles))
        keys = [(reference_of(sending.message, number), number) for number in self._numbers]
        ids = [self._told.pop(key) for key in keys if key in self._told]
        if refusals and not ids:
            raise Refused("; ".join(refusals))
        also = f"; but refused for {'; '.join(refusals)}" if refusals else ""
        return Receipt(said=f"taken for {len(ids)} of {len(keys)}{also}", reference=", ".join(filter(None, ids)))

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _one(self, sending: Sending, number: str, text: str, reference: str) -> str:
        """The id that the gateway gives it; empty when it says none."""
        told = {"number": number, "sender": self._sender, "text": text, "reference": reference}
        try:
            values = {name: line.render(told) for name, line in self._fields.items()}
        except TemplateError as error:
            raise Refused(f"the fields of the gateway: {error}") from error
        body: dict[str, Any] = {"json": values} if self._gateway.encoding == "json" else {"data": values}
        # A gateway that knows this header takes a repeated request for what it is.
        headers = {"Idempotency-Key": reference}
        answer = await post(self._client, self._gateway.url, now=sending.now, headers=headers, **body)
        return id_in(answer, self._gateway.answer_id)


def text_of(sending: Sending) -> str:
    """One message: the channel's text if it has one, otherwise the title and why."""
    message = sending.message
    if sending.body:
        return fitted(sending.body)
    if sending.title:
        return fitted(sending.title)
    first = message.alerts[0].annotations
    why = first.get("last_failure") or first.get("summary", "") if message.status == "firing" else ""
    return fitted(f"{message.title}. {why}" if why else message.title)


def fitted(text: str, most: int = LONGEST) -> str:
    """As much of a text as one message holds, in the alphabet of the network."""
    plain = "".join(_in_alphabet(sign) for sign in " ".join(text.split()))
    if septets(plain) <= most:
        return plain
    while septets(plain) > most - 3:
        plain = plain[:-1]
    return f"{plain.rstrip()}..."


def septets(text: str) -> int:
    """What a text takes of the 160."""
    return sum(2 if sign in EXTENDED else 1 for sign in text)


def reference_of(message: Message, number: str) -> str:
    """Stands for this message to this number, however often it is sent."""
    return hashlib.sha256(f"{message.incident} {message.sequence} {number}".encode()).hexdigest()[:32]


def id_in(answer: httpx.Response, path: str) -> str:
    """The id that a gateway gave a message; empty when it gave none. Raises Failed for an answer that is no answer."""
    if not answer.content.strip():
        return ""
    try:
        found = jmespath.search(path, json.loads(answer.content))
    except JMESPathError:
        return ""
    except ValueError as error:
        if answer.text.lstrip().startswith("<"):
            raise Failed(f"{said_of(answer)}: a page, not the answer of a gateway") from error
        return answer.text.strip()[:100]
    return "" if found is None else str(found)


def check_answer_id(path: str) -> None:
    """Raises ValueError, one sentence, for what is no JMESPath."""
    try:
        jmespath.compile(path)
    except JMESPathError as error:
        raise ValueError(f"{path!r} is no JMESPath: {str(error).splitlines()[0]}") from error


def check_fields(fields: Mapping[str, str]) -> None:
    """Raises TemplateMistake, with the field's name, for one that can never be used."""
    for name, source in fields.items():
        try:
            Line(source, names=NAMES)
        except TemplateMistake as error:
            raise TemplateMistake(f"{name}: {error}") from error


def _in_alphabet(sign: str) -> str:
    if sign in BASIC or sign in EXTENDED:
        return sign
    if sign in _INSTEAD:
        return _INSTEAD[sign]
    plain = "".join(each for each in unicodedata.normalize("NFKD", sign) if each in BASIC)
    return plain or "?"
