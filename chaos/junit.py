"""Reports of drills as JUnit XML, for CI servers: a suite for each drill, a case for each clause."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from stormwatch.chaos.report import Report
from stormwatch.chaos.verdict import Answer, Clause


def as_junit(reports: Sequence[Report]) -> str:
    """What is known to be wrong is a failure, what is not known an error, so that CI servers tell them apart."""
    suites = [_suite(report) for report in reports]
    whole = ET.Element("testsuites", {"name": "stormwatch drill", **_sums(reports)})
    whole.extend(suites)
    ET.indent(whole)
    return ET.tostring(whole, encoding="unicode", xml_declaration=True)


def _suite(report: Report) -> ET.Element:
    observed = report.detection.observed
    suite = ET.Element(
        "testsuite",
        {
            "name": report.drill.name,
            "timestamp": datetime.fromtimestamp(observed.started, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            **_sums([report]),
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("verdict", report.verdict.value),
        ("fault", json.dumps(report.drill.fault.as_json())),
        *(("beside", json.dumps(one.as_json())) for one in report.drill.beside),
        *((link.name, f"{link.seconds:.3f}") for link in report.detection.detection_links()),
        *((link.name, f"{link.seconds:.3f}") for link in report.detection.recovery_links()),
    ):
        ET.SubElement(properties, "property", name=name, value=xml_safe(value))
    for clause in report.judgement.clauses:
        _case(suite, report, clause)
    return suite


def _case(suite: ET.Element, report: Report, clause: Clause) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=f"drill.{report.drill.name}", name=xml_safe(f"{clause.name}: {clause.asked}")
    )
    if clause.answer is Answer.YES:
        return
    tag = "failure" if clause.answer is Answer.NO else "error"
    element = ET.SubElement(case, tag, type=report.verdict.value, message=xml_safe(clause.seen))
    element.text = xml_safe("\n".join(report.lines()))


def _sums(reports: Sequence[Report]) -> dict[str, str]:
    answers = [clause.answer for report in reports for clause in report.judgement.clauses]
    seconds = sum(max(0.0, one.detection.observed.ended - one.detection.observed.started) for one in reports)
    return {
        "tests": str(len(answers)),
        "failures": str(answers.count(Answer.NO)),
        "errors": str(answers.count(Answer.INCONCLUSIVE)),
        "time": f"{seconds:.3f}",
    }


def xml_safe(text: str) -> str:
    """Without the characters that XML 1.0 has no way to write: targets choose what stands in a message."""
    return "".join(
        sign
        for sign in text
        if sign in "\t\n\r" or " " <= sign <= "\ud7ff" or "\ue000" <= sign <= "\ufffd" or sign > "\uffff"
    )
