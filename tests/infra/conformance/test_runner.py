"""Comparisons, and what the runner and ``tidegate conformance`` say of a folder."""

import json
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from infra.cli.main import app
from infra.conformance.adapter import Case, Comparison, Tolerance, Value
from infra.conformance.runner import Status, run
from infra.conformance.table import adapters
from tests.conftest import SHARED
from tests.golden import plain_derive

GOLDEN = plain_derive.FOLDER
# What the published numbers are known to reach, by file: models and numbers that agree.
PUBLISHED = {
    "derive_pmrm1_named.json": 88,
    "derive_pmrm1_verified.json": 147,
    "derive_pmrm2_portfolios.json": 27_661,
    "derive_primitives.json": 121,
    "derive_srm_cases.json": 336,
    "derive_srm_named.json": 84,
}


def golden(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return document


def write(folder: Path, name: str, document: Any) -> Path:
    path = folder / f"{name}.json"
    raw = document if isinstance(document, bytes | str) else json.dumps(document)
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


def called(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["conformance", *map(str, arguments)])


class Counting:
    """An adapter of one format whose cases are given by the file: what a plug-in may do."""

    format = "counting"
    models: tuple[str, ...] = ("counted",)

    def recognises(self, document: Mapping[str, Any]) -> bool:
        """Whether it has steps."""
        return "steps" in document

    def cases(self, document: Mapping[str, Any]) -> Iterator[Case]:
        """Yield a case for each row of steps; a step agrees if it is 1."""
        for number, steps in enumerate(document["steps"]):
            yield Case(str(number), tuple(Comparison(step, 1.0, 1.0 / steps[step]) for step in steps))


@pytest.mark.parametrize(
    ("expected", "computed", "agrees"),
    [
        (1, 1.0, True),
        (Fraction(1, 3), Fraction(2, 6), True),
        (10**30, 10**30 + 1, False),
        (10**400, 10**400 + 1, False),
        (True, 1, False),
        (True, True, True),
        ("refused", "refused", True),
        (None, None, True),
        (None, 0.0, False),
        (math.nan, math.nan, False),
        (math.inf, math.inf, True),
        (math.inf, 1e308, False),
        (1e308, -1e308, False),
    ],
)
def test_without_tolerance_only_equals_agree(expected: Value, computed: Value, agrees: bool) -> None:
    """A truth value passes for a number, or a number of 30 digits is compared as a float."""
    comparison = Comparison("step", expected, computed)

    assert comparison.agrees is agrees
    assert (comparison.error == 0.0) is agrees


@given(st.floats(-1e9, 1e9), st.floats(0.0, 1e-3), st.floats(0.0, 1e3))
def test_tolerance_is_of_the_larger_of_value_and_scale(expected: float, relative: float, scale: float) -> None:
    """An error within the tolerance is refused, or one of twice the tolerance is not."""
    size = max(abs(expected), scale)
    tolerance = Tolerance(relative=relative, scale=scale)

    within = Comparison("step", expected, expected + 0.5 * relative * size, tolerance)
    beyond = Comparison("step", expected, expected + 2.0 * relative * size + 1e-6, tolerance)

    assert within.agrees or 0.5 * relative * size < 1e-6
    assert not beyond.agrees
    assert beyond.error > 0.0


def test_published_numbers_agree() -> None:
    """A model, or an adapter's reading of a format, no longer gives a venue's own numbers."""
    vectors = SHARED / "reference" / "vectors"
    if not vectors.is_dir():
        pytest.skip(f"published vectors are not there: {vectors}")

    results = list(run([vectors / name for name in PUBLISHED], adapters()))

    assert {result.file: result.differences[:3] for result in results if result.status is not Status.AGREES} == {}
    assert {result.file: result.passed for result in results} == PUBLISHED
    assert all(result.unread == [] for result in results)


def test_published_margins_agree_in_all_their_digits() -> None:
    """A margin is within the money at stake times 1e-12, but not within itself times 1e-12."""
    vectors = SHARED / "reference" / "vectors"
    if not vectors.is_dir():
        pytest.skip(f"published vectors are not there: {vectors}")
    document = json.loads((vectors / "derive_pmrm2_portfolios.json").read_text())
    adapter = next(each for each in adapters() if each.recognises(document))

    margins = [one for case in adapter.cases(document) for one in case.comparisons if one.step in {"im", "mm"}]

    assert len(margins) == 2 * 139
    assert all(one.error <= 1e-12 * abs(float(one.expected or 0.0)) for one in margins)


def test_a_folder_that_agrees_exits_0(tmp_path: Path) -> None:
    """Agreement is not success."""
    write(tmp_path, "never seen before", golden("short_strangle"))
    write(tmp_path, "b", golden("uncovered_calls"))
    (tmp_path / "README.md").write_text("not a vector file")

    result = called(tmp_path, "--strict")

    assert result.exit_code == 0
    assert "never seen before.json: agrees: derive-pmrm2, 1 cases, 38 of 38 numbers" in result.stdout
    assert "46 of 46 numbers agree" in result.stdout


@pytest.mark.parametrize(
    ("name", "step"),
    [("short_strangle", "basis_contingency"), ("short_strangle_v1", "mm"), ("uncovered_calls", "eth_option_im")],
)
def test_a_tampered_number_exits_3_and_is_named(tmp_path: Path, name: str, step: str) -> None:
    """A wrong number passes, or the message does not say which intermediate went wrong."""
    document = golden(name)
    document["vectors"][0]["expected"][step] *= 1.0 + 1e-9
    write(tmp_path, "tampered", document)

    result = called(tmp_path)
    machine = called(tmp_path, "--json")

    assert result.exit_code == machine.exit_code == 3
    assert f"{name}: {step}: published" in result.stderr
    (file,) = json.loads(machine.stdout)["files"]
    assert (file["status"], file["differences"][0]["step"]) == ("differs", step)
    assert [each["step"] for each in file["steps"] if each["passed"] < each["total"]] == [step]


def test_a_tampered_input_names_the_first_step_that_it_moves(tmp_path: Path) -> None:
    """The last number is blamed for what went wrong at the first."""
    document = golden("short_strangle")
    document["vectors"][0]["portfolio"]["expiries"][0]["options"][1]["vol"] += 0.01
    write(tmp_path, "tampered", document)

    result = called(tmp_path)

    assert result.exit_code == 3
    assert "short_strangle: option_mtm_per_expiry[0]: published" in result.stderr


def test_a_tampered_element_of_a_list_is_named_by_its_place(tmp_path: Path) -> None:
    """A scenario that differs cannot be found, or a list cut short passes."""
    wrong, short = golden("short_strangle"), golden("negative_rate")
    wrong["vectors"][0]["expected"]["scenario_pnl"][7] += 1.0
    short["vectors"][0]["expected"]["scenario_pnl"].pop()
    write(tmp_path, "a", wrong)
    write(tmp_path, "b", short)

    result = called(tmp_path)

    assert result.exit_code == 3
    assert "short_strangle: scenario_pnl[7]: published" in result.stderr
    assert "negative_rate: scenario_pnl[length]: published 19, computed 20" in result.stderr


def test_what_nothing_reads_is_told_and_fails_only_when_strict(tmp_path: Path) -> None:
    """A file of a model that is not installed is passed over in silence, or fails everyone."""
    write(tmp_path, "a", golden("cash_only"))
    write(tmp_path, "drift", {"source": {}, "vectors": {"perp_weights": [{}]}})
    write(tmp_path, "named", {"format": "moon-margin", "vectors": []})
    write(tmp_path, "other", {**golden("cash_only"), "model": "moon"})

    loose, strict = called(tmp_path), called(tmp_path, "--strict")

    assert (loose.exit_code, strict.exit_code) == (0, 1)
    assert "drift.json: not covered: nothing installed reads it" in loose.stdout
    assert "named.json: not covered: nothing installed reads format 'moon-margin'" in loose.stdout
    assert "other.json: not covered: nothing installed reads format 'derive-pmrm2-portfolios' and model 'moon'" in (
        loose.stdout
    )


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (
            {"source": "derive", "vectors": {"discount": [], "max_fraction": []}},
            "auctions of liquidated accounts: what a",
        ),
        ({"source": {}, "vectors": [{"id": "a", "auction_params": {}}]}, "auctions of liquidated accounts: what a"),
        ({"source": {"repo": "drift/v2", "path": "a.rs"}}, "nothing installed reads what drift/v2, a.rs publishes"),
        ({"source": "x" * 500}, "nothing installed reads what xxx"),
        ({"units": "coins", "vectors": [3, None]}, "nothing installed reads it"),
    ],
)
def test_what_is_not_covered_is_told_with_its_reason(tmp_path: Path, document: Any, line: str) -> None:
    """Somebody with a file of another venue, or of no margin model, cannot tell why it is passed over."""
    write(tmp_path, "a", document)

    told = called(tmp_path)

    first, *_ = told.stdout.splitlines()
    assert told.exit_code == 0
    assert first.startswith(f"a.json: not covered: {line}")
    assert len(first) < 200


def test_folders_within_are_read_too(tmp_path: Path) -> None:
    """Files of a folder within are passed over in silence, or cannot be told from those of another."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "a", golden("cash_only"))

    told = called(tmp_path)

    assert told.exit_code == 0
    assert [line.split(":")[0] for line in told.stdout.splitlines() if "agrees:" in line] == [
        "one/a.json",
        "two/a.json",
    ]


DAMAGES = [None, "x", "", "NaN", True, -1, 0, 0.5, 1e308, -1e308, 5e-324, 10**30, 10**400, [], {}, [1], {"a": 1}]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    """A file with any one value missing or another ends in a traceback or a warning, or is unreadable for no reason."""
    file = data.draw(st.sampled_from(sorted((GOLDEN.parent).glob("*/*.json"))))
    document = json.loads(file.read_text())
    at = document
    while isinstance(at, dict | list) and at:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.integers(0, 9)) == 0:
            break
        at = at[key]
    if data.draw(st.booleans()):
        del at[key]
    else:
        at[key] = data.draw(st.sampled_from(DAMAGES))

    (result,) = run([write(tmp_path, "damaged", document)], adapters())

    assert "\n" not in result.message
    assert result.status is not Status.UNREADABLE or len(result.message) > len("malformed")


def test_a_value_without_a_rule_is_told_and_fails_only_when_strict(tmp_path: Path) -> None:
    """A published number is not compared, and nobody hears of it."""
    document = golden("cash_only")
    document["vectors"][0]["expected"]["im_gamma_contingency"] = 0.0
    write(tmp_path, "a", document)

    loose, strict = called(tmp_path), called(tmp_path, "--strict")

    assert (loose.exit_code, strict.exit_code) == (0, 1)
    assert "no rule for cash_only: im_gamma_contingency" in loose.stdout


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "not JSON"),
        ('{"source": NaN}', "not JSON: NaN is no JSON number"),
        ("[" * 100_000, "not JSON: arrays and objects nest deeper than 64"),
        ("[1, 2]", "not a vector file: it states none of format, model, source, units"),
        ('{"hello": 1}', "not a vector file"),
        ('{"format": "derive-srm-portfolios", "vectors": []}', "it holds nothing to compare"),
        ('{"format": "derive-srm-portfolios"}', "Object missing required field `vectors`"),
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"source": 1' + "0" * 400 + "}", "not JSON: an integer of 401 digits: 10000000000000000000…"),
        (b'\xff\xfe{"source": 1}', "not JSON: no UTF-8 text"),
        ("null", "not a vector file"),
    ],
)
def test_what_cannot_be_read_exits_1_with_a_line(tmp_path: Path, content: str | bytes, line: str) -> None:
    """A broken file counts as success, or ends in a traceback."""
    write(tmp_path, "broken", content)

    result = called(tmp_path)

    assert result.exit_code == 1
    assert f"broken.json: unreadable: {line}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda case: case["portfolio"].pop("spot"), "missing required field `spot`"),
        (lambda case: case["portfolio"].update(spot="dear"), "Expected `int | float`, got `str`"),
        (lambda case: case["portfolio"].update(spot=-1.0), "short_strangle: spot is -1.0"),
        (lambda case: case["portfolio"]["expiries"][0].update(sec=-1), "short_strangle: seconds[0] is -1.0"),
        (lambda case: case["params"]["basis"].pop("add_factor"), "short_strangle: params.basis lacks add_factor"),
        (lambda case: case["params"]["margin"].update(fee=1.0), "short_strangle: params.margin has fee"),
        (lambda case: case["params"]["basis"].update(spot_up=0.9), "short_strangle: basis_up: Input should be"),
        (lambda case: case["params"]["scenarios"][0].update(vol_shock="sideways"), "scenarios.0.vol_move"),
        (lambda case: case["expected"].update(scenario_pnl=3), "scenario_pnl is int where a list is expected"),
        (lambda case: case["expected"].update(option_mtm=[3]), "short_strangle: option_mtm is list where a number is"),
        (lambda case: case["portfolio"].update(spot=10**30), "at its start: a value of another kind or size"),
    ],
)
def test_a_malformed_case_is_named_with_its_fault(tmp_path: Path, change: Any, line: str) -> None:
    """A fault in a case ends in a traceback, or does not say which case and what."""
    document = golden("short_strangle")
    change(document["vectors"][0])
    write(tmp_path, "malformed", document)

    result = called(tmp_path)

    assert result.exit_code == 1
    assert line in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_is_run_alone(tmp_path: Path) -> None:
    """Files of other models are run, or a misspelt model passes for agreement."""
    write(tmp_path, "a", golden("short_strangle"))
    write(tmp_path, "b", golden("uncovered_calls"))

    alone, misspelt = called(tmp_path, "--model", "derive-srm"), called(tmp_path, "--model", "derive-srn")

    assert alone.exit_code == 0
    assert "a.json: not asked for: it is for derive-pmrm2" in alone.stdout
    assert "8 of 8 numbers agree" in alone.stdout
    assert misspelt.exit_code == 2
    assert "no vectors are read for a model 'derive-srn'" in misspelt.stderr


def test_one_file_can_be_run_and_nothing_is_wrong_use(tmp_path: Path) -> None:
    """A folder that is not there, or has no vectors, passes for agreement."""
    file = write(tmp_path, "a", golden("cash_only"))
    (tmp_path / "empty").mkdir()

    codes = [called(path).exit_code for path in (file, tmp_path / "empty", tmp_path / "nowhere")]

    assert codes == [0, 2, 2]


def test_steps_keep_the_order_of_computation(tmp_path: Path) -> None:
    """A step that the first case lacks is listed last, and the first that fails is not the first in the list."""
    cases = [{"mark": 1.0, "margin": 1.0}, {"mark": 1.0, "scenario": 1.0, "margin": 2.0}, {"alone": 1.0}]
    file = write(tmp_path, "a", {"source": "here", "steps": [*cases, {"forward": 1.0, "mark": 1.0}]})

    (result,) = run([file], [Counting()])

    assert list(result.steps) == ["forward", "mark", "scenario", "margin", "alone"]
    assert (result.status, result.passed, result.total) == (Status.DIFFERS, 7, 8)
    assert (result.differences[0].case, result.differences[0].step) == ("1", "margin")


def test_a_fault_after_agreeing_cases_is_not_agreement(tmp_path: Path) -> None:
    """A file that breaks half way counts as success for the half that was read."""
    file = write(tmp_path, "a", {"source": "here", "steps": [{"mark": 1.0}, {"mark": 0.0}]})

    (result,) = run([file], [Counting()])

    assert (result.status, result.passed) == (Status.UNREADABLE, 1)
    assert "division by zero" in result.message
