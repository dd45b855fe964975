"""What fields mean, for editors and the documentation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated

from pydantic import Field

from stormwatch.harness.field_docs import field_docs
from stormwatch.harness.form import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What all of them have."""

    name: str
    """How it is called.

    Only once.
    """
    silent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing(Base):
    """One of them."""

    lasting: Annotated[float, Field(validation_alias="for")] = 1.0
    """How long it lasts."""
    inner: Base = field(default_factory=lambda: Base(name="inner"))
    """What is inside."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


def test_fields_have_the_docstrings_under_them() -> None:
    """Those of the classes before it too."""
    assert field_docs(Thing) == {
        "name": "How it is called.\n\nOnly once.",
        "lasting": "How long it lasts.",
        "inner": "What is inside.",
    }


def test_a_class_without_source_has_none() -> None:
    """A kind of another package may be made in any way."""
    made = make_dataclass("Made", [("name", str)])
    made.__module__ = "nowhere.to.be.found"

    assert field_docs(made) == {}
    assert field_docs(int) == {}


def test_only_who_asks_for_the_schema_reads_them() -> None:
    """By the names that users write; reading what they wrote costs nothing of it."""
    form = Form(Thing)

    assert form.read({"name": "one", "for": 2.5}).value == Thing(name="one", lasting=2.5)
    assert form.read({"nam": "one"}).faults
    assert "schema" not in vars(form)

    properties = form.schema["properties"]
    assert {name: each.get("description") for name, each in properties.items()} == {
        "name": "How it is called.\n\nOnly once.",
        "silent": None,
        "for": "How long it lasts.",
        "inner": "What is inside.",
        "labels": None,
    }
