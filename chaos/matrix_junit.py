"""A matrix as JUnit XML, for CI servers: a suite for each dependency, a case for each fault on it, and what holds of the whole."""

from xml.etree import ElementTree as ET

from stormwatch.chaos.junit import xml_safe
from stormwatch.chaos.matrix import Matrix, Outcome, catcher_name, explain
from stormwatch.chaos.matrix_cell import State


def junit_of(matrix: Matrix) -> str:
    """What nobody is told of as they should is a failure, what is not known an error, what changed nothing is skipped."""
    whole = ET.Element("testsuites", name="stormwatch drill --matrix")
    by_dependency: dict[str, list[Outcome]] = {}
    for one in matrix.outcomes:
        by_dependency.setdefault(one.cell.dependency, []).append(one)
    for name, outcomes in by_dependency.items():
        suite = ET.SubElement(whole, "testsuite", name=xml_safe(name))
        for one in outcomes:
            _case(suite, one)
    _whole(ET.SubElement(whole, "testsuite", name="the matrix"), matrix)
    for element in (*whole, whole):
        _count(element)
    ET.indent(whole)
    return ET.tostring(whole, encoding="unicode", xml_declaration=True)


def _case(suite: ET.Element, outcome: Outcome) -> None:
    cell, state = outcome.cell, outcome.state
    case = ET.SubElement(
        suite,
        "testcase",
        classname=xml_safe(f"matrix.{cell.dependency}"),
        name=xml_safe(cell.name.partition("/")[2]),
        time=f"{sum(one.took for one in (outcome.sight, *outcome.repeats)):.3f}",
    )
    if state is State.KILLED:
        return
    tag = "skipped" if state is State.EQUIVALENT else "failure" if state.counts else "error"
    said = explain(outcome)
    found = ET.SubElement(case, tag, message=xml_safe(said["what"]))
    if tag != "skipped":
        found.set("type", state.value)
        found.text = xml_safe("\n".join(filter(None, (said["what"], said["remedy"]))))


def _whole(suite: ET.Element, matrix: Matrix) -> None:
    seconds = sum(one.seconds for one in matrix.controls)
    quiet = _of_whole(suite, "no alert fires while nothing is broken", seconds)
    if matrix.false_alarms:
        names = ", ".join(dict.fromkeys(catcher_name(one.labels) for one in matrix.false_alarms))
        ET.SubElement(quiet, "failure", type="false-alarm", message=xml_safe(names))
    complete = _of_whole(suite, "every cell was run as often as asked", matrix.seconds)
    if not matrix.complete:
        message = f"{matrix.runs} of {matrix.planned * matrix.repeat}; go on with --resume"
        ET.SubElement(complete, "error", type="interrupted", message=message)
    for one in matrix.checks:
        case = _of_whole(suite, one.cell.name, one.sight.took)
        if not one.state.told:
            tag = "failure" if one.state.counts else "error"
            ET.SubElement(case, tag, type=one.state.value, message=xml_safe(explain(one)["what"]))


def _of_whole(suite: ET.Element, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname="matrix", name=xml_safe(name), time=f"{seconds:.3f}")


def _count(element: ET.Element) -> None:
    """The sums that a reader shows first."""
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(1 for _ in element.iter(tag))))
