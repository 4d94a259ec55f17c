"""Thousands of random portfolios, held against the plain implementations: ``python -m tests.golden.campaign``.

One account at a time through the forms that show every step, and whole books through the columns that decide (of all
models but ``deribit-standard``, whose options have no plain twin). For every step it prints how many numbers there
were, the largest error relative to the number itself and to the largest that was summed up for it, and where. It exits
with 1 where a number differs by more than ``TOLERANCE`` of the latter (a margin of nearly nothing is a sum of large
gains and losses), or an integer differs at all.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from flows.margin.deribit_portfolio_book import MODEL as DERIBIT_BOOK
from flows.margin.derive_pmrm2_book import MODEL as PMRM2_BOOK
from flows.margin.derive_pmrm_book import MODEL as PMRM_BOOK
from flows.margin.derive_srm_book import MODEL as SRM_BOOK
from flows.margin.dydx_book import MODEL as DYDX_BOOK
from flows.margin.model import MarginModel
from infra.conformance.adapter import Adapter
from infra.conformance.deribit import ADAPTER as DERIBIT
from infra.conformance.derive import PMRM, PMRM2, SRM
from infra.conformance.dydx import ADAPTER as DYDX
from tests.golden import derive_books, venue_books
from tests.golden.random_portfolios import random_documents

TOLERANCE: Final = 1e-9
# Of what is nothing but the rounding of larger numbers there is no relative error.
ROUNDING: Final = 1e-12
BOOK_ACCOUNTS: Final = 40
ADAPTERS: Final[dict[str, Adapter]] = {
    "derive-srm": SRM, "derive-pmrm": PMRM, "derive-pmrm2": PMRM2, "deribit": DERIBIT, "dydx-v4": DYDX,
}  # fmt: skip
BOOKS: Final[dict[str, MarginModel]] = {
    model.name: model for model in (SRM_BOOK, PMRM_BOOK, PMRM2_BOOK, DERIBIT_BOOK, DYDX_BOOK)
}


@dataclass
class Step:
    """The errors of one step: how many numbers, the largest relative errors, how many differ, and where first."""

    count: int = 0
    of_itself: float = 0.0
    of_size: float = 0.0
    differing: int = 0
    worst: str = ""

    def take(self, *, error: float, expected: float, size: float, agrees: bool, where: str) -> None:
        """Count one number."""
        self.count += 1
        self.differing += not agrees
        if abs(expected) > ROUNDING * size:
            self.of_itself = max(self.of_itself, error / abs(expected))
        relative = error / size if size > 0.0 else error
        if relative > self.of_size or not self.worst:
            self.of_size, self.worst = relative, where


@dataclass
class Report:
    """Every step's errors, in the order in which steps come."""

    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def differing(self) -> int:
        """Return how many numbers differ."""
        return sum(step.differing for step in self.steps.values())

    def step(self, name: str) -> Step:
        """Return a step, new where it is."""
        return self.steps.setdefault(name, Step())

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        yield f"{'step':58} {'numbers':>9} {'of itself':>10} {'of size':>10} {'differ':>7}  worst"
        for name, it in self.steps.items():
            yield f"{name:58} {it.count:9,} {it.of_itself:10.1e} {it.of_size:10.1e} {it.differing:7}  {it.worst}"


def run_accounts(model: str, document: dict[str, Any], report: Report) -> None:
    """Hold every step of every case against what the case expects."""
    for case in ADAPTERS[model].cases(document):
        for one in case.comparisons:
            number = one.expected if isinstance(one.expected, int | float) else 0.0
            size = max(abs(float(number)), one.tolerance.scale)
            report.step(f"{model}: {one.step}").take(
                error=one.error, expected=float(number), size=size,
                agrees=one.agrees or one.error <= TOLERANCE * one.tolerance.scale, where=f"{case.case} {one.place}",
            )  # fmt: skip


def run_books(seed: int, size: int, report: Report) -> None:
    """Hold so many accounts of random books against the plain implementations, under each model."""
    for book in range(-(-size // BOOK_ACCOUNTS)):
        of_market = (seed * 1_000_000 + book, BOOK_ACCOUNTS, BOOKS)
        compared = chain(derive_books.compare_books(*of_market), venue_books.compare_books(*of_market))
        for place, one in enumerate(compared):
            error = abs(one.own - one.expected)
            report.step(f"books, {one.step}").take(
                error=error, expected=one.expected, size=one.size, agrees=error <= TOLERANCE * one.size,
                where=f"market {book} number {place}",
            )  # fmt: skip


def campaign(seed: int, size: int, models: list[str]) -> Report:
    """Return the errors over so many portfolios of each model."""
    report = Report()
    for model, document in random_documents(seed, size).items():
        if not models or model in models:
            run_accounts(model, document(), report)
    if not models or "books" in models:
        run_books(seed, size, report)
    return report


def main() -> None:
    """Run a campaign and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=1_000, help="portfolios of each model, and accounts of books")
    parser.add_argument("--model", action="append", default=[], choices=[*ADAPTERS, "books"], help="default: all")
    chosen = parser.parse_args()
    report = campaign(chosen.seed, chosen.size, chosen.model)
    for line in report.lines():
        print(line)  # noqa: T201 - a command
    sys.exit(1 if report.differing else 0)


if __name__ == "__main__":
    main()
