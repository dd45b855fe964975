"""The dialogue's state machine, without I/O: what each step hears, and the same verdict however the bytes are split."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stormwatch.probes.dialogue import LINE, TOTAL, Conversation, Dialogue, Listen, Mismatch, Secure, Send, Step
from stormwatch.probes.failure import ProbeFailed
from stormwatch.probes.result import Reason

STEPS: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])


def dialogue_of(*steps: dict[str, Any], secure: bool = False) -> Dialogue:
    """Steps as they stand in the configuration."""
    return Dialogue.of(STEPS.validate_python(steps), secure=secure)


def hold(dialogue: Dialogue, chunks: Sequence[bytes], *, ends: bool = True) -> tuple[list[bytes], dict[str, str], str]:
    """What was sent, the labels, and the verdict (empty when all is well), when just these bytes come."""
    talk, sent, coming = Conversation(dialogue), list[bytes](), list(chunks)
    try:
        while (action := talk.next()) is not None:
            if isinstance(action, Send):
                sent.append(action.data)
            elif isinstance(action, Listen):
                while coming:
                    if talk.hear(coming.pop(0)):
                        break
                else:
                    if not ends or not talk.ended():
                        return sent, talk.labels, "waits"
            else:
                assert isinstance(action, Secure)
    except ProbeFailed as failure:
        return sent, talk.labels, f"{failure.reason.value}: {failure.message}"
    return sent, talk.labels, ""


def verdict(*steps: dict[str, Any], came: bytes, ends: bool = True) -> str:
    """Of a dialogue to which these bytes come, all at once."""
    return hold(dialogue_of(*steps), [came], ends=ends)[2]


def test_groups_of_a_line_are_said_again() -> None:
    """By number those of the last expression, by name those of any; two braces are doubled."""
    dialogue = dialogue_of(
        {"expect": r"^220 (?P<host>\S+) (\w+)$"},
        {"send": "EHLO {{ 1 }}\r\n", "expect": "^250 (.*)$"},
        {"send": "{{host}} {{ 1 }} {{ 0 }} {{{{ 1 }}\n"},
    )
    sent, _, said = hold(dialogue, ["220 mail.test ESMTP\r\n250 fine\xe9\n".encode()])
    assert sent == [b"EHLO mail.test\r\n", "mail.test fine\xe9 250 fine\xe9 {{ 1 }}\n".encode()]
    assert said == ""


def test_labels_of_several_steps_are_one_set() -> None:
    """blackbox_exporter panics there."""
    dialogue = dialogue_of(
        {"expect": r"^SSH-([0-9.]+)-(.*)$", "labels": {"protocol": "{{ 1 }}", "server": "{{ 2 }}"}},
        {"expect_bytes": "ok", "labels": {"state": "fine"}},
    )
    _, labels, said = hold(dialogue, [b"SSH-2.0-Open\xffSSH" + b"x" * 300 + b"\nok"])
    assert labels["protocol"] == "2.0"
    assert labels["state"] == "fine"
    assert labels["server"].startswith("Open\N{REPLACEMENT CHARACTER}SSHxxx")
    assert len(labels["server"]) == 200
    assert said == ""


WANTED = "step 1 of the dialogue wanted"
VERDICTS: list[tuple[str, list[dict[str, Any]], bytes, str]] = [
    ("a line", [{"expect": "^b$"}], b"a\r\nb\r\n", ""),
    ("the last line has no end", [{"expect": "^b$"}], b"a\nb", ""),
    ("a carriage return within", [{"expect": "^a\rb$"}], b"a\rb\r\n", ""),
    (
        "no such line",
        [{"expect": "^c$"}],
        b"a\nb\n",
        f"assertion: {WANTED} a line that matches '^c$'; the connection was closed after 'b'",
    ),
    (
        "a line that must not come",
        [{"expect": "^250", "reject": "^[45]"}],
        b"554 go away\r\n250 fine\r\n",
        f"assertion: {WANTED} a line that matches '^250'; there came '554 go away', which it must not",
    ),
    ("as long as may be", [{"expect": "^x+$"}], b"x" * LINE + b"\n", ""),
    (
        "too long, with an end",
        [{"expect": "^y"}],
        b"x" * (LINE + 1) + b"\n",
        "protocol: a line is longer than 65536 bytes",
    ),
    ("too long, without", [{"expect": "^y"}], b"x" * (LINE + 1), "protocol: a line is longer than 65536 bytes"),
    ("bytes anywhere", [{"expect_bytes": "cd"}, {"expect_hex": "66 67", "exactly": True}], b"abcdfg", ""),
    (
        "other bytes",
        [{"expect_bytes": "xy"}],
        b"abcd",
        f"assertion: {WANTED} the bytes 'xy'; the connection was closed, and last came 'abcd'",
    ),
    (
        "not at once",
        [{"expect_hex": "53", "exactly": True}],
        b"NS",
        f"assertion: {WANTED} the bytes 53; there came 'N'",
    ),
    (
        "cut off",
        [{"expect_bytes": "abc", "exactly": True}],
        b"ab",
        f"assertion: {WANTED} the bytes 'abc'; the connection was closed after 'ab'",
    ),
    ("every byte is a character", [{"expect_raw": r"^\xff(.)\x00$", "size": "3B"}], b"\xff\x80\x00rest", ""),
    ("fewer bytes", [{"expect_raw": "^ab$", "size": "64B"}], b"ab", ""),
    (
        "other raw bytes",
        [{"expect_raw": "^ab$", "size": "2B"}],
        b"a\xff",
        f"assertion: {WANTED} bytes that match '^ab$'; there came 'a\\\\xff'",
    ),
    ("the end", [{"closed": True}], b"bye", ""),
    ("what is left over is for the next step", [{"expect": "^a"}, {"expect": "^b"}], b"a\nb\n", ""),
    (
        "plain text within TLS",
        [{"expect": "^220", "starttls": True}],
        b"220 go\r\n250 injected\r\n",
        "protocol: bytes came in plain text where TLS should begin, after the step was over: '250 injected\\r\\n'",
    ),
]


@pytest.mark.parametrize(("steps", "came", "said"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_what_comes_of_a_step(steps: list[dict[str, Any]], came: bytes, said: str) -> None:
    """All at once, and byte by byte where that is not too long."""
    assert hold(dialogue_of(*steps), [came])[2] == said
    if len(came) < 100 and not steps[0].get("starttls"):
        assert hold(dialogue_of(*steps), [came[at : at + 1] for at in range(len(came))])[2] == said


_STEP = st.sampled_from(
    [
        {"expect": "^a(.*)$", "labels": {"rest": "{{ 1 }}"}},
        {"expect": "b", "reject": "^ab"},
        {"expect_bytes": "ab"},
        {"expect_bytes": "a\nb", "exactly": True},
        {"expect_raw": "a.*b", "size": "4B"},
        {"closed": True},
        {"send": "hello\n"},
    ]
)


@settings(max_examples=500, deadline=None)
@given(
    steps=st.lists(_STEP, min_size=1, max_size=4),
    came=st.text("ab\n\r", max_size=40).map(str.encode),
    cuts=st.lists(st.integers(0, 40), max_size=12),
    ends=st.booleans(),
)
def test_the_verdict_is_the_same_however_the_bytes_are_split(
    steps: list[dict[str, str]], came: bytes, cuts: list[int], ends: bool
) -> None:
    """What is sent, the labels and the whole sentence as well."""
    dialogue = dialogue_of(*steps)
    places = sorted({0, len(came), *(cut for cut in cuts if cut < len(came))})
    split = [came[begin:end] for begin, end in pairwise(places)]
    assert hold(dialogue, split, ends=ends) == hold(dialogue, [came] if came else [], ends=ends)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(_STEP, min_size=1, max_size=4), chunks=st.lists(st.binary(max_size=200), max_size=8))
def test_any_bytes_are_a_verdict(steps: list[dict[str, str]], chunks: list[bytes]) -> None:
    """And never another exception."""
    hold(dialogue_of(*steps), chunks)


def test_a_step_that_waits_too_long_says_what_came() -> None:
    """Nothing at all is a time-out; bytes that are few may be enough."""
    talk = Conversation(dialogue_of({"expect": "^c", "within": "1s"}))
    assert talk.next() == Listen(1.0)
    with pytest.raises(ProbeFailed, match=r"within 1s; nothing came$") as silence:
        talk.lapsed()
    assert silence.value.reason is Reason.TIMEOUT
    assert not talk.hear(b"a\nb")
    with pytest.raises(Mismatch, match=r"within 1s; last came 'a'$") as other:
        talk.lapsed()
    assert other.value.metric == "probe_failed_due_to_regex"
    raw = Conversation(dialogue_of({"expect_raw": "^ab", "size": "9B", "within": "1s"}))
    raw.next()
    assert not raw.hear(b"abc")
    raw.lapsed()
    assert raw.next() is None
    shut = Conversation(dialogue_of({"closed": True, "within": "1s"}))
    shut.next()
    with pytest.raises(ProbeFailed, match=r"wanted the connection closed within 1s; it is open still$"):
        shut.lapsed()


def test_little_is_kept_of_much() -> None:
    """What is passed over is forgotten, and there is an end to it."""
    talk = Conversation(dialogue_of({"expect_bytes": "needle"}))
    talk.next()
    flood = b"x" * 2**20
    for _ in range(TOTAL // len(flood)):
        assert not talk.hear(flood)
        assert len(talk.buffer) < len("needle")
    assert len(talk.text) == 2048
    with pytest.raises(ProbeFailed, match=r"^more than 16MiB came during the dialogue$"):
        talk.hear(flood)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "dialogue[0]: give send, expect or both"),
    ({"expect": "("}, "dialogue[0].expect: '(' is not an RE2 expression: missing ): ("),
    ({"expect": "a", "reject": "("}, "dialogue[0].reject: '(' is not an RE2 expression: missing ): ("),
    ({"expect": "a", "closed": True}, "dialogue[0]: expect and closed exclude each other; make two steps of them"),
    ({"send": "a", "send_hex": "00"}, "dialogue[0]: send and send_hex exclude each other"),
    ({"send_hex": "0"}, "dialogue[0].send_hex: bytes are written in pairs of hexadecimal digits, like 00 ff"),
    ({"expect_hex": "xx"}, "dialogue[0].expect_hex: bytes are written in pairs of hexadecimal digits, like 00 ff"),
    ({"send": "a", "reject": "b"}, "dialogue[0].reject: it stands beside expect"),
    ({"expect": "a", "exactly": True}, "dialogue[0].exactly: it stands beside expect_bytes or expect_hex"),
    ({"expect_raw": "a"}, "dialogue[0]: expect_raw and size belong together"),
    ({"expect_raw": "a", "size": "1MiB"}, "dialogue[0].size: 1MiB is not between 1B and 64KiB"),
    (
        {"expect_raw": "\N{EURO SIGN}", "size": "1B"},
        "dialogue[0].expect_raw: '\N{EURO SIGN}' has signs that are no bytes: write them as \\x00 to \\xff",
    ),
    ({"send": "a", "labels": {"b": "c"}}, "dialogue[0].labels: they need something that is expected"),
    ({"expect": "a", "labels": {"__b": "c"}}, "dialogue[0].labels: '__b' is not a label name"),
    (
        {"send": "{{ 1 }}"},
        "dialogue[0].send: {{ 1 }} refers to no group of an expression before; known here: none",
    ),
    (
        {"expect": "(?P<x>a)(b)", "labels": {"y": "{{ z }}"}},
        "dialogue[0].labels.y: {{ z }} refers to no group of an expression before; known here: 1, 2, x",
    ),
    ({"send": "{{ 1"}, "dialogue[0].send: a reference is written {{ 1 }}; write {{{{ for two plain braces"),
]


@pytest.mark.parametrize(("step", "message"), MISTAKES, ids=[message[:60] for _, message in MISTAKES])
def test_a_mistake_is_one_clear_sentence(step: dict[str, Any], message: str) -> None:
    """It names the step."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dialogue_of(step)


def test_tls_begins_once() -> None:
    """Before the dialogue, or within it."""
    said = r"^dialogue\[0\]\.starttls: the connection is within TLS already$"
    with pytest.raises(ValueError, match=said):
        dialogue_of({"starttls": True}, secure=True)
    with pytest.raises(ValueError, match=r"^dialogue\[1\]\.starttls: "):
        dialogue_of({"starttls": True}, {"starttls": True})
