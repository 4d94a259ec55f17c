"""The adapters of Deribit, dYdX and documents' examples: published numbers, our golden cases, and spoilt files."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.conformance.adapter import Adapter, Comparison, MalformedError
from infra.conformance.deribit import ADAPTER as DERIBIT
from infra.conformance.dydx import ADAPTER as DYDX
from infra.conformance.examples import ADAPTER as EXAMPLES
from tests.golden import plain_deribit, plain_dydx

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT.parent / "shared" / "reference" / "vectors"
GOLDEN = sorted((ROOT / "tests/golden/deribit").glob("*.json")) + sorted((ROOT / "tests/golden/dydx").glob("*.json"))


def _read(path: Path) -> dict[str, Any]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])


def _published(name: str) -> dict[str, Any]:
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the repository: published numbers are not distributed with it")
    return _read(path)


def _differences(adapter: Adapter, document: dict[str, Any]) -> tuple[int, list[str]]:
    """Return how many numbers were compared, and those that differ, the first step of each case first."""
    count, differing = 0, []
    for case in adapter.cases(document):
        count += len(case.comparisons)
        differing += [f"{case.case}: {it.step} {it.place}: {it}" for it in case.comparisons if not it.agrees]
    return count, differing


@pytest.mark.parametrize(("name", "adapter", "count"), [
    ("deribit_portfolio_margin.json", DERIBIT, 231), ("dydx_margin_liquidation.json", DYDX, 183),
    ("doc_examples.json", EXAMPLES, 25),
])  # fmt: skip
def test_every_published_number_is_reproduced(name: str, adapter: Adapter, count: int) -> None:
    """Fails at the first step that differs from what the venue published, or where a number is no longer compared."""
    document = _published(name)

    compared, differing = _differences(adapter, document)

    assert differing == []
    assert compared == count


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_cases_agree_at_every_step(path: Path) -> None:
    """Fails where a model differs from the plain implementation that wrote the file."""
    document = _read(path)
    adapters: dict[str, Adapter] = {DERIBIT.format: DERIBIT, DYDX.format: DYDX}
    adapter = adapters[document["format"]]

    compared, differing = _differences(adapter, document)

    assert compared > 0
    assert differing == []


@pytest.mark.parametrize("module", [plain_deribit, plain_dydx], ids=["deribit", "dydx"])
def test_golden_files_are_those_that_the_plain_implementation_writes(module: Any) -> None:
    """Fails where a file was edited by hand, or its case was changed and the file not written anew."""
    files = {path.name: _read(path) for path in module.FOLDER.glob("*.json")}

    written = {name: msgspec.json.decode(text, type=dict[str, Any]) for name, text in module.documents().items()}

    assert sorted(files) == sorted(written)
    for name, document in files.items():
        assert _leaves(document) == pytest.approx(_leaves(written[name]), rel=1e-12, abs=1e-15)


def _leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Return what a document holds, by place; names and absences as numbers, so that all can be compared at once."""
    if isinstance(value, dict):
        return {at: leaf for key, item in value.items() for at, leaf in _leaves(item, f"{place}.{key}").items()}
    if isinstance(value, list):
        return {at: leaf for n, item in enumerate(value) for at, leaf in _leaves(item, f"{place}.{n}").items()}
    return {place: value} if isinstance(value, int | float) else {f"{place}={value}": 0}


def test_the_first_step_that_went_wrong_is_named() -> None:
    """A comparison out of order would blame a margin for a wrong vector."""
    document = _read(ROOT / "tests/golden/deribit/calendar_spread.json")
    expected = document["records"][0]["expected"]
    expected["initial_risk_vectors"]["FUTURE"]["standard"][2] += 1e-9
    expected["maintenance_margin"] += 1e-6

    case = next(DERIBIT.cases(document))

    wrong = [it for it in case.comparisons if not it.agrees]
    assert [(it.step, it.place) for it in wrong] == [("initial_risk_vector", "FUTURE 3"), ("maintenance_margin", "")]


def test_a_refusal_that_does_not_come_is_a_difference() -> None:
    """A model that liquidated what must be refused would otherwise pass."""
    document = _read(ROOT / "tests/golden/dydx/bankruptcy_of_a_mixed_account.json")
    vector = document["vectors"]["bankruptcy_price"][0]
    vector["error"], vector["expected_quote_quantums"] = True, None

    case = next(DYDX.cases(document))

    assert [(it.step, it.agrees) for it in case.comparisons] == [("refused", False), ("bankruptcy_quote", False)]


def test_one_quantum_is_a_difference() -> None:
    """Numbers of dYdX have no tolerance, however large."""
    comparison = Comparison("initial_margin", 3402823669209384634264811192843492, 3402823669209384634264811192843493)

    assert not comparison.agrees


def _spoilt(change: Callable[[dict[str, Any]], object], path: str) -> dict[str, Any]:
    document = copy.deepcopy(_read(ROOT / "tests/golden" / path))
    change(document)
    return document


DERIBIT_FILE, DYDX_FILE = "deribit/short_strangle.json", "dydx/insurance_fund_takes_fee_or_loss.json"


@pytest.mark.parametrize(("adapter", "path", "change", "words"), [
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0].update(index="x"), "Expected `float`"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0].update(index=0.0), "index_price must be positive"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["params"].update(price_ranges=0.1), "price_ranges is not"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["params"].update(price_range=1.5), "price_range"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["params"].update(vol_scenarios_count=5), "vol_scenarios_count"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["params"].update(buckets_count=5), "there are 35 scenarios"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["positions"][0].pop("strike"), "PUT: an option has"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["positions"][2].update(expiry_ms=1, kind="perpetual"),
     "a perpetual has none"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["positions"].pop(), "which is not held"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"].insert(0, 7), "record_0: Expected `object`"),
    (DYDX, DYDX_FILE, lambda it: it["markets"]["0"].update(price=1.5), "markets.0: Expected `int`"),
    (DYDX, DYDX_FILE, lambda it: it["markets"].pop("1"), "no market is named '1'"),
    (DYDX, DYDX_FILE, lambda it: it["vectors"]["insurance_fund_delta"][0].pop("is_buy"), "is_buy"),
    (DYDX, DYDX_FILE, lambda it: it["vectors"]["insurance_fund_delta"][0].update(quantum_conversion_exponent=-10**9),
     "out of range"),
])  # fmt: skip
def test_a_spoilt_file_is_refused_in_words(
    adapter: Adapter, path: str, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    """One clear line, naming the case, and never a number that was not computed."""
    document = _spoilt(change, path)

    with pytest.raises(MalformedError, match=words):
        list(adapter.cases(document))


@pytest.mark.parametrize(("adapter", "path", "change", "unread"), [
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"].append({"kind": "sm"}), "'sm' is not a kind of record"),
    (DERIBIT, DERIBIT_FILE, lambda it: it["records"][0]["expected"].update(vega_shock=1.0), "expected.vega_shock"),
    (DYDX, DYDX_FILE, lambda it: it["vectors"].update(margins=[]), "vectors.margins is not a kind of case"),
    (DYDX, DYDX_FILE, lambda it: it["vectors"]["insurance_fund_delta"][0].update(expected_fee=1), "expected_fee"),
    (EXAMPLES, None, lambda it: it.update(kraken_haircut=[], other=[]), "not a section"),
])  # fmt: skip
def test_what_is_not_compared_is_named(
    adapter: Adapter, path: str | None, change: Callable[[dict[str, Any]], object], unread: str
) -> None:
    """A published number that nobody looked at must not read as one that agrees."""
    document: dict[str, Any] = {}
    if path is not None:
        document = _read(ROOT / "tests/golden" / path)
    change(document)

    named = [name for case in adapter.cases(document) for name in case.unread]

    assert len(named) == 1
    assert named[0].startswith(unread)


def test_adapters_know_their_own_files() -> None:
    """A file offered to the wrong adapter must be passed on, whatever it holds."""
    documents: list[dict[str, Any]] = [_read(ROOT / "tests/golden" / path) for path in (DERIBIT_FILE, DYDX_FILE)]
    documents += [{"kraken_haircut": []}, {}, {"records": []}, {"records": [3]}, {"markets": {"0": 3}, "vectors": {}}]

    known = [[adapter.recognises(document) for adapter in (DERIBIT, DYDX, EXAMPLES)] for document in documents]

    nobody = [False, False, False]
    assert known == [[True, False, False], [False, True, False], [False, False, True], nobody, nobody, nobody, nobody]


def test_an_example_outside_our_models_is_left_out_with_its_reason() -> None:
    """Silence would read as a pass."""
    document = {"bit_pm": {"worst_loss_btc": 0.2}, "kraken_haircut": [
        {"qty": 2.0, "price": 10.0, "haircut": 0.25, "expected_value": 20.0, "expected_collateral": 15.0}
    ]}  # fmt: skip

    first, second = EXAMPLES.cases(document)

    assert first.left_out is not None and "not published" in first.left_out
    assert [(it.step, it.agrees) for it in second.comparisons] == [("value", True), ("collateral", True)]
