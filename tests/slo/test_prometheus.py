"""What Prometheus is given: it accepts it, its numbers are exact, its text is not a program."""

import json
import re
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stormwatch.slo.objective import Objective
from stormwatch.slo.policy import POLICIES, rules_for_objective, rules_for_probe
from stormwatch.slo.prometheus import exact, render_rules, render_scrape
from tests.program import program
from tests.slo.story import DAY, HOUR, objective, probe


def rendered(given_objective: Objective, policy: str = "workbook") -> dict[str, dict[str, Any]]:
    """The rules of one objective by name; of several with one name the last."""
    text = render_rules([given_objective], rules_for_objective(given_objective, [probe()], policy=policy), [probe()])
    return {
        rule.get("record") or f"{rule['alert']} {rule['labels']['severity']}": rule
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    }


@pytest.mark.parametrize("target", ["0.5", "0.9", "0.95", "0.99", "0.999", "0.9995", "0.99999", "1", "2/3"])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_promtool_accepts_every_rendering(policy: str, target: str, tmp_path: Path) -> None:
    """Periods from ten minutes to a quarter, probes from seconds to an hour, labels and texts of any kind."""
    probes = [
        probe(
            f"probe-{every}",
            every=float(every),
            labels={"cost-centre": "7", "quote": 'say "hi" \\ {{ .Labels }}', "empty": ""},
            depends_on=("probe-5",),
            runbook="https://runbooks.example/{{probe}}?a=1#{{",
            timeout=2.5,
        )
        for every in (5, 60, 3600)
    ]
    objectives = [
        objective(
            f"{each.name}-{period}",
            probes=(each.name,),
            target=Fraction(target),
            window=float(period),
            labels=each.labels,
        )
        for each in probes
        for period in (600, 3600, DAY, 7 * DAY, 28 * DAY, 30 * DAY, 90 * DAY)
    ]
    rules = [rule for each in objectives for rule in rules_for_objective(each, probes, policy=policy)]
    rules += [rule for each in probes for rule in rules_for_probe(each, lasting=2.5)]
    path = tmp_path / "rules.yml"
    path.write_text(render_rules(objectives, rules, probes, version="0.1.0"))

    done = subprocess.run(
        [program("promtool"), "check", "rules", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_recorded_series_have_the_names_and_labels_of_sloth() -> None:
    """Dashboards made for sloth find what they look for."""
    rules = rendered(objective(labels={"service": "shop", "team": "web"}))
    identity = {"sloth_id": "shop-front-availability", "sloth_service": "shop", "sloth_slo": "front-availability"}

    records = {name: rule["labels"] for name, rule in rules.items() if "record" in rule}
    windows = ["5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"]
    assert records == {
        **{
            f"slo:sli_error:ratio_rate{window}": {
                **identity,
                "service": "shop",
                "team": "web",
                "sloth_window": window,
            }
            for window in windows
        },
        **{
            name: {**identity, "service": "shop", "team": "web"}
            for name in (
                "slo:objective:ratio",
                "slo:error_budget:ratio",
                "slo:time_period:days",
                "slo:current_burn_rate:ratio",
                "slo:period_burn_rate:ratio",
                "slo:period_error_budget_remaining:ratio",
            )
        },
        "sloth_slo_info": {
            **identity,
            "service": "shop",
            "team": "web",
            "sloth_version": "",
            "sloth_mode": "stormwatch",
            "sloth_spec": "stormwatch",
            "sloth_objective": "99.9",
        },
    }


def test_numbers_are_exact() -> None:
    """No 0.0009999999999999432 in a rule, and no 0.9990000000000001."""
    rules = rendered(objective())

    assert rules["slo:objective:ratio"]["expr"] == "vector(0.999)"
    assert rules["slo:error_budget:ratio"]["expr"] == "vector(0.001)"
    assert rules["slo:time_period:days"]["expr"] == "vector(30)"
    assert re.findall(r"> ([\d.]+)", rules["ErrorBudgetBurn page"]["expr"]) == ["0.0144", "0.0144", "0.006", "0.006"]
    assert re.findall(r"> ([\d.]+)", rules["ErrorBudgetBurn ticket"]["expr"]) == ["0.003", "0.003", "0.001", "0.001"]
    assert rules["ErrorBudgetLow info"]["expr"].endswith("< 0.1")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(1), "1"),
        (Fraction(1, 1000), "0.001"),
        (Fraction(999, 1000), "0.999"),
        (Fraction(-5, 4), "-1.25"),
        (Fraction(864, 5), "172.8"),
        (Fraction(10) ** 20, "100000000000000000000"),
        (Fraction(1, 10**20), "0.00000000000000000001"),
        (Fraction(7, 7500), "(7 / 7500)"),
    ],
)
def test_a_number_is_a_decimal_or_a_quotient(number: Fraction, text: str) -> None:
    """What has no finite decimal is left to one division, which rounds once."""
    assert text == exact(number)


@given(st.fractions(Fraction(-100), Fraction(100), max_denominator=10**6))
def test_a_number_can_be_read_back(number: Fraction) -> None:
    """Every digit is there."""
    text = exact(number)
    numerator, _, denominator = text.strip("()").partition(" / ")

    assert number == Fraction(numerator) / Fraction(denominator or 1)


def test_the_period_is_one_ratio_of_a_full_window() -> None:
    """No average of averages; and a month of a run every 15 s allows 172.8 failures from its first day on."""
    rules = rendered(objective())

    assert rules["slo:period_burn_rate:ratio"]["expr"] == (
        'sum(increase(stormwatch_objective_events_total{objective="front-availability", judgement="bad"}[30d]))\n/\n'
        '(0.001 * clamp_min(sum(increase(stormwatch_objective_events_total{objective="front-availability"}[30d])) > 0,'
        " 172800))"
    )


def test_what_looks_over_a_month_is_evaluated_every_minute() -> None:
    """The rest at Prometheus' own interval; a short period is cheap and needs none."""
    month, hour = objective(), objective("hour", window=1.0 * HOUR)
    rules = [rule for each in (month, hour) for rule in rules_for_objective(each, [probe()])]

    groups = yaml.safe_load(render_rules([month, hour], rules, [probe()]))["groups"]
    assert [(group["name"], group.get("interval")) for group in groups] == [
        ("stormwatch-slo-front-availability", None),
        ("stormwatch-budget-front-availability", "1m"),
        ("stormwatch-slo-hour", None),
        ("stormwatch-budget-hour", None),
    ]


def test_reachability_is_rendered_with_its_mutes() -> None:
    """Dependencies and maintenance silence it."""
    front = probe(depends_on=("dns",), labels={"team": "web"})
    (group,) = yaml.safe_load(render_rules([], rules_for_probe(front, lasting=30)))["groups"]
    down, blind = group["rules"]

    def is_down(name: str) -> str:
        seen = f'probe_success{{probe="{name}"}}'
        return f"(max({seen}) or max(last_over_time({seen}[15m]))) == 0"

    mutes = f'unless on() ({is_down("dns")})\nunless on() (max(stormwatch_maintenance{{probe="front"}}) == 1)'
    assert down["alert"] == "ProbeDown"
    assert down["expr"] == f"(\n{is_down('front')}\n)\n{mutes}"
    assert down["for"] == "30s"
    assert down["labels"] == {"team": "web", "severity": "page", "probe": "front"}
    assert blind["alert"] == "ProbeNoEvidence"
    assert blind["expr"].endswith(f"> 56\n)\n{mutes}")
    assert "for" not in blind


def test_a_rule_without_its_objective_is_refused() -> None:
    """Its budget would be unknown."""
    with pytest.raises(ValueError, match="'front-availability', which is not there"):
        render_rules([], rules_for_objective(objective(), [probe()]))


def test_prometheus_says_which_windows_burn_and_prints_texts_as_they_are(tmp_path: Path) -> None:
    """The annotation asks again when it is written; braces in a link of a person are no template."""
    shop = objective(runbook="https://runbooks.example/{{x}}")
    rules = rules_for_objective(shop, [probe()])
    (tmp_path / "rules.yml").write_text(render_rules([shop], [rules[0]], [probe()]))
    bad = {"series": 'stormwatch_objective_events_total{objective="front-availability",judgement="bad"}'}
    good = {"series": 'stormwatch_objective_events_total{objective="front-availability",judgement="good"}'}
    annotations = {**rules[0].annotations}

    def expected(at: str, windows: str) -> dict[str, Any]:
        return {
            "alertname": "ErrorBudgetBurn",
            "eval_time": at,
            "exp_alerts": [
                {
                    "exp_labels": {"severity": "page", "objective": "front-availability"},
                    "exp_annotations": {**annotations, "windows": windows},
                }
            ],
        }

    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                # An hour of good runs, four bad ones, and good ones again.
                "input_series": [
                    {**good, "values": "0+4x60 240 240+4x60"},
                    {**bad, "values": "0x60 4+0x60"},
                ],
                "alert_rule_test": [
                    expected("61m", "14.4x over 1h and 5m"),
                    expected("70m", "6x over 6h and 30m"),
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))

    done = subprocess.run(
        [program("promtool"), "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_window_without_results_records_nothing(tmp_path: Path) -> None:
    """No NaN that would spoil every window it is in, and no alert."""
    rules = rules_for_objective(objective(), [probe()])
    (tmp_path / "rules.yml").write_text(render_rules([objective()], rules, [probe()]))
    names = ["slo:sli_error:ratio_rate5m", "slo:current_burn_rate:ratio", "slo:period_error_budget_remaining:ratio"]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {
                        "series": f'stormwatch_objective_events_total{{objective="front-availability",judgement="{each}"}}',
                        "values": "0x30",
                    }
                    for each in ("good", "bad")
                ],
                "promql_expr_test": [
                    {"expr": f'{{__name__=~"ALERTS|{"|".join(names)}"}}', "eval_time": f"{minute}m"}
                    for minute in range(31)
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))

    done = subprocess.run(
        [program("promtool"), "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    """`instance` stays the probed target."""
    text = render_scrape(["127.0.0.1:9797"], interval=5)
    (tmp_path / "prometheus.yml").write_text(text)
    subprocess.run([program("promtool"), "check", "config", tmp_path / "prometheus.yml"], check=True, timeout=60)

    assert yaml.safe_load(text)["scrape_configs"][0]["honor_labels"] is True
