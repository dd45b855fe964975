"""A document as an experiment, with every mistake in it found before anything is done."""

import importlib.util
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from stormwatch.chaos.experiment import (
    TIMEOUT,
    Activity,
    Asked,
    AtPath,
    Exactly,
    Experiment,
    Hypothesis,
    Kind,
    Matches,
    OneOf,
    Provider,
    Safeguard,
    Strategy,
    Tolerance,
    Within,
)
from stormwatch.probes.pattern import compile_pattern

SAFEGUARDS = "chaosaddons.controls.safeguards"
"""The one control that is followed: its probes end the method at once."""
OURS = "stormwatch.chaos.chaostoolkit.control"
"""Our own control is for `chaos run`: here, everything that it does is done anyway."""
_NEEDED = {Provider.PYTHON: ("module", "func"), Provider.PROCESS: ("path",), Provider.HTTP: ("url",)}
_ROUTES = {"default", "always"}


class ExperimentMistake(Exception):
    """A document is no experiment. `lines`: one mistake each, with its place, what was asked, what was seen."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def is_experiment(document: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is meant as an experiment."""
    return isinstance(document, Mapping) and "method" in document


def read_experiment(document: Mapping[str, Any]) -> Experiment:
    """Make the values. Raises ExperimentMistake with all that is wrong."""
    reader = _Reader(document)
    experiment = reader.experiment()
    if reader.mistakes:
        raise ExperimentMistake(reader.mistakes)
    return experiment


def read_activities(documents: Iterable[Mapping[str, Any]]) -> tuple[Activity, ...]:
    """Activities that were read before, as a record holds them. Raises ExperimentMistake.

    What they call is not looked up: one that is missing here must not keep the others from being played.
    """
    reader = _Reader({}, look_up=False)
    found = reader.activities(list(documents), "rollbacks")
    if reader.mistakes:
        raise ExperimentMistake(reader.mistakes)
    return found


class _Reader:
    def __init__(self, document: Mapping[str, Any], *, look_up: bool = True) -> None:
        self._document = document
        self._look_up = look_up
        self.mistakes: list[str] = []
        self._warnings: list[str] = []
        self._named = self._all_named()

    def experiment(self) -> Experiment:
        document = self._document
        for key in ("title", "description"):
            if not isinstance(document.get(key), str) or not document[key]:
                self._mistake(key, "a text is needed", document.get(key), "say what the experiment is for")
        configuration = self._mapping(document.get("configuration", {}), "configuration")
        secrets = self._mapping(document.get("secrets", {}), "secrets")
        runtime = self._mapping(document.get("runtime", {}), "runtime")
        hypothesis = document.get("steady-state-hypothesis")
        strategy = self._strategy(runtime)
        self._rollback_strategy(runtime)
        safeguards = self._controls()
        dynamic = tuple(
            (key, self._activity(value | {"name": value.get("name", key)}, f"configuration.{key}"))
            for key, value in configuration.items()
            if isinstance(value, dict) and value.get("type") == "probe"
        )
        return Experiment(
            title=str(document.get("title", "")),
            description=str(document.get("description", "")),
            method=self.activities(document.get("method"), "method"),
            rollbacks=self.activities(document.get("rollbacks") or [], "rollbacks"),
            hypothesis=self._hypothesis(hypothesis) if hypothesis else None,
            configuration=configuration,
            dynamic=tuple((key, activity) for key, activity in dynamic if activity),
            secrets=secrets,
            strategy=strategy,
            safeguards=safeguards,
            warnings=tuple(self._warnings),
            document=document,
        )

    def activities(self, documents: Any, place: str) -> tuple[Activity, ...]:
        if not isinstance(documents, list):
            self._mistake(place, "a list of activities is needed", documents, "an empty list is allowed")
            return ()
        found = (self._activity(one, f"{place}[{index}]") for index, one in enumerate(documents))
        return tuple(one for one in found if one)

    def _activity(self, document: Any, place: str, *, seen: frozenset[str] = frozenset()) -> Activity | None:
        if not isinstance(document, Mapping):
            self._mistake(place, "an activity is needed", document, "it has type, name and provider")
            return None
        if "ref" in document:
            return self._referred(document["ref"], place, seen)
        kind = self._kind(document, place)
        provider = self._provider(document.get("provider"), place)
        if kind is None or provider is None:
            return None
        call: Mapping[str, Any] = document["provider"]
        self._told_controls(document, f"{place} ")
        pauses = self._mapping(document.get("pauses", {}), f"{place}.pauses")
        raw = document.get("tolerance")
        return Activity(
            name=str(document.get("name") or place),
            kind=kind,
            provider=provider,
            call=call,
            timeout=self._timeout(document, call, place),
            pause_before=self._seconds(pauses.get("before", 0), f"{place}.pauses.before"),
            pause_after=self._seconds(pauses.get("after", 0), f"{place}.pauses.after"),
            background=bool(document.get("background", False)),
            dry=_is_dry(document.get("dry", self._document.get("dry")), kind),
            tolerance=None if raw is None else self._tolerance(raw, f"{place}.tolerance"),
            document=dict(document),
        )

    def _referred(self, name: Any, place: str, seen: frozenset[str]) -> Activity | None:
        if name not in self._named or name in seen:
            known = ", ".join(self._named) or "none"
            self._mistake(f"{place}.ref", "the name of another activity is needed", name, f"there are: {known}")
            return None
        return self._activity(self._named[name], place, seen=seen | {name})

    def _kind(self, document: Mapping[str, Any], place: str) -> Kind | None:
        if document.get("type") in tuple(Kind):
            return Kind(document["type"])
        self._mistake(f"{place}.type", "probe or action is needed", document.get("type"), "say which of them it is")
        return None

    def _provider(self, call: Any, place: str) -> Provider | None:
        if not isinstance(call, Mapping) or call.get("type") not in tuple(Provider):
            seen = call.get("type") if isinstance(call, Mapping) else call
            self._mistake(f"{place}.provider.type", "python, process or http is needed", seen, "choose one of them")
            return None
        provider = Provider(call["type"])
        for key in _NEEDED[provider]:
            if not isinstance(call.get(key), str) or not call[key]:
                self._mistake(f"{place}.provider.{key}", "a text is needed", call.get(key), f"{provider} calls it")
                return None
        if provider is Provider.PROCESS and self._look_up:
            self._looked_up(str(call["path"]), f"{place}.provider.path")
        if provider is Provider.PYTHON and not isinstance(call.get("arguments") or {}, Mapping):
            self._mistake(f"{place}.provider.arguments", "a mapping is needed", call["arguments"], "give them names")
        return provider

    def _looked_up(self, path: str, place: str) -> None:
        if "$" not in path and not shutil.which(str(Path(path).expanduser())):
            self._mistake(place, "a program is needed", path, "install it, or give its whole path")

    def _timeout(self, document: Mapping[str, Any], call: Mapping[str, Any], place: str) -> Any:
        asked = call.get("timeout", document.get("timeout"))
        if isinstance(asked, list):
            # requests has one for connecting and one for reading.
            return (
                sum(self._seconds(one, f"{place}.timeout") for one in asked if isinstance(one, int | float)) or TIMEOUT
            )
        return TIMEOUT if asked is None else self._seconds(asked, f"{place}.timeout", least=0.001)

    def _seconds(self, value: Any, place: str, *, least: float = 0.0) -> Any:
        if isinstance(value, str) and "$" in value:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            self._mistake(place, "seconds are needed", value, "a number that is not negative")
            return 0
        return value

    def _tolerance(self, raw: Any, place: str) -> Tolerance | None:
        if isinstance(raw, bool | int | str):
            return Exactly(value=raw)
        if isinstance(raw, float):
            remedy = f'two numbers are hardly ever equal; write {{"type": "range", "range": [{raw}, {raw}]}}'
            self._mistake(place, "a whole number or a range is needed", raw, remedy)
            return None
        if isinstance(raw, list):
            return OneOf(values=tuple(raw))
        if isinstance(raw, Mapping):
            return self._typed_tolerance(raw, place)
        self._mistake(place, "a value, a list or a typed tolerance is needed", raw, "see the experiment's reference")
        return None

    def _typed_tolerance(self, raw: Mapping[str, Any], place: str) -> Tolerance | None:
        target = str(raw.get("target") or "")
        match raw.get("type"):
            case "probe":
                probe = self._activity({"name": place, **raw}, place)
                return Asked(probe=probe) if probe else None
            case "range":
                return self._range(raw.get("range"), target, place)
            case "regex":
                return self._regex(raw.get("pattern"), target, place)
            case "jsonpath":
                return self._jsonpath(raw, target, place)
            case other:
                self._mistake(f"{place}.type", "probe, range, regex or jsonpath is needed", other, "choose one of them")
                return None

    def _range(self, bounds: Any, target: str, place: str) -> Tolerance | None:
        numbers = [one for one in bounds if isinstance(one, int | float)] if isinstance(bounds, list) else []
        if len(numbers) != 2 or len(bounds) != 2:
            self._mistake(f"{place}.range", "two numbers are needed", bounds, "the lowest and the highest allowed")
            return None
        return Within(low=numbers[0], high=numbers[1], target=target)

    def _regex(self, pattern: Any, target: str, place: str) -> Tolerance | None:
        if not isinstance(pattern, str):
            self._mistake(
                f"{place}.pattern", "a regular expression is needed", pattern, "see RE2 for how it is written"
            )
            return None
        try:
            compile_pattern(pattern, f"{place}.pattern")
        except ValueError as error:
            self.mistakes.append(str(error))
            return None
        return Matches(pattern=pattern, target=target)

    def _jsonpath(self, raw: Mapping[str, Any], target: str, place: str) -> Tolerance | None:
        path, count = raw.get("path"), raw.get("count")
        if importlib.util.find_spec("jsonpath2") is None:
            self._mistake(place, "jsonpath2 is needed for it", None, "pip install 'stormwatch[chaostoolkit]'")
            return None
        from jsonpath2.path import Path as JSONPath

        if not isinstance(path, str) or not path.strip():
            self._mistake(f"{place}.path", "a JSONPath is needed", path, "say where the value stands")
            return None
        try:
            if "${" not in path:
                JSONPath.parse_str(path.strip())
        except ValueError as error:
            self._mistake(f"{place}.path", "a JSONPath is needed", path, str(error))
            return None
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            self._mistake(f"{place}.count", "a whole number is needed", count, "how many values are found")
            return None
        return AtPath(
            path=path.strip(), target=target, count=count, expect=raw.get("expect"), has_expect="expect" in raw
        )

    def _hypothesis(self, document: Any) -> Hypothesis | None:
        place = "steady-state-hypothesis"
        fields = self._mapping(document, place)
        probes = self.activities(fields.get("probes", []), f"{place}.probes")
        for index, probe in enumerate(probes):
            if probe.tolerance is None and not any(place in line for line in self.mistakes):
                remedy = "say which value is well"
                self._mistake(f"{place}.probes[{index}].tolerance", "a tolerance is needed", None, remedy)
        return Hypothesis(title=str(fields.get("title", "")), probes=probes)

    def _strategy(self, runtime: Mapping[str, Any]) -> Strategy:
        asked = self._mapping(runtime.get("hypothesis", {}), "runtime.hypothesis").get("strategy", "default")
        try:
            return strategy_of(asked)
        except ValueError:
            choices = ", ".join(Strategy)
            self._mistake("runtime.hypothesis.strategy", f"one of {choices} is needed", asked, "choose one of them")
            return Strategy.DEFAULT

    def _rollback_strategy(self, runtime: Mapping[str, Any]) -> None:
        asked = self._mapping(runtime.get("rollbacks", {}), "runtime.rollbacks").get("strategy", "default")
        if asked not in _ROUTES:
            self._warnings.append(
                f"runtime.rollbacks.strategy: {asked} is not followed; what was begun is always rolled back"
            )

    def _controls(self) -> tuple[Safeguard, ...]:
        found: list[Safeguard] = []
        for index, control in enumerate(self._document.get("controls") or []):
            place = f"controls[{index}]"
            call = control.get("provider", {}) if isinstance(control, Mapping) else {}
            if call.get("module") != SAFEGUARDS:
                self._ignored(control, "")
                continue
            for number, probe in enumerate(call.get("arguments", {}).get("probes", [])):
                at = f"{place}.provider.arguments.probes[{number}]"
                read = self._activity(probe, at)
                if read and read.tolerance is None:
                    self._mistake(f"{at}.tolerance", "a tolerance is needed", None, "say which value is well")
                elif read:
                    frequency = probe.get("frequency") if isinstance(probe, Mapping) else None
                    looks = None if frequency is None else self._seconds(frequency, f"{at}.frequency", least=0.001)
                    found.append(Safeguard(probe=read, frequency=looks))
        return tuple(found)

    def _told_controls(self, document: Mapping[str, Any], place: str) -> None:
        for control in document.get("controls") or []:
            self._ignored(control, place)

    def _ignored(self, control: Any, place: str) -> None:
        call = control.get("provider", {}) if isinstance(control, Mapping) else {}
        if call.get("module") != OURS:
            name = control.get("name") if isinstance(control, Mapping) else control
            self._warnings.append(f"{place}control {name!r} is not run: controls are code inside of `chaos run`")

    def _mapping(self, value: Any, place: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._mistake(place, "a mapping is needed", value, "see the experiment's reference")
            return {}
        return dict(value)

    def _all_named(self) -> dict[str, Any]:
        hypothesis = self._document.get("steady-state-hypothesis")
        lists = [
            hypothesis.get("probes") if isinstance(hypothesis, Mapping) else None,
            self._document.get("method"),
            self._document.get("rollbacks"),
        ]
        return {
            str(one["name"]): one
            for activities in lists
            if isinstance(activities, list)
            for one in activities
            if isinstance(one, Mapping) and "name" in one
        }

    def _mistake(self, place: str, asked: str, seen: Any, remedy: str) -> None:
        shown = "it is missing" if seen is None else f"there is {str(seen)[:80]!r}"
        self.mistakes.append(f"{place}: {asked}, {shown}; {remedy}")


def strategy_of(name: str) -> Strategy:
    """The strategy with chaoslib's name, of which one is misspelt. Raises ValueError."""
    return Strategy("continuously" if name == "continously" else name)


def _is_dry(dry: Any, kind: Kind) -> bool:
    return dry in ("activities", f"{kind}s")
