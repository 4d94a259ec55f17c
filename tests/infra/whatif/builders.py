"""Portfolios with sensible defaults: one perpetual, one call a fortnight out, 10,000 USDC and nothing held."""

from typing import Any

from flows.margin.registry import margin_models
from infra.whatif.document import Portfolio
from infra.whatif.portfolio import portfolio_scene
from infra.whatif.scene import Scene

EXPIRY = "2026-03-27T08:00Z"
MODELS = margin_models()


def a_document(
    positions: list[dict[str, Any]] | None = None,
    *,
    price: str = "60000",
    model: str = "tidegate-standard",
    balances: dict[str, str] | None = None,
    open_orders: list[dict[str, str]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return a portfolio as a person writes it; ``changes`` replace whole keys."""
    listing = {"underlying": "BTC", "quote": "USDC", "settlement_asset": "USDC"}
    option = {"kind": "option", "tick_size": "1", "lot_size": "0.01", "option_type": "call", "expiry": EXPIRY}
    return {
        "time": "2026-03-13T00:00Z",
        "assets": [
            {"asset": "USDC", "decimals": 6, "price": "1", "haircut": "0"},
            {"asset": "BTC", "decimals": 8, "haircut": "0.1"},
        ],
        "instruments": [
            {"instrument": "BTC-PERP", "kind": "perpetual", "tick_size": "0.5", "lot_size": "0.001", **listing},
            {"instrument": "BTC-70000-C", "strike": "70000", **option, **listing},
        ],
        "market": {
            "prices": {"BTC": price},
            "smiles": [
                {"underlying": "BTC", "expiry": EXPIRY, "points": [{"strike": "70000", "implied_vol": "0.6"}]}
            ],
        },
        "account": {
            "account": "alice",
            "margin_model": model,
            "balances": {"USDC": "10000"} if balances is None else balances,
            "positions": positions or [],
            "open_orders": open_orders or [],
        },
        **changes,
    }  # fmt: skip


def a_scene(positions: list[dict[str, Any]] | None = None, **options: Any) -> Scene:
    """Return the scene of ``a_document``."""
    return portfolio_scene(Portfolio.model_validate(a_document(positions, **options)), MODELS)


def said(stderr: str) -> str:
    """Return what a command said on stderr, but for the note that it compiles kernels, which the first of all has."""
    return "".join(line for line in stderr.splitlines(keepends=True) if "compiling kernels" not in line)


def a_perpetual(quantity: str, entry_price: str = "60000") -> dict[str, Any]:
    """Return a position in the perpetual."""
    return {"instrument": "BTC-PERP", "quantity": quantity, "entry_price": entry_price}


def a_call(quantity: str) -> dict[str, Any]:
    """Return a position in the call, whose premium is in the balance."""
    return {"instrument": "BTC-70000-C", "quantity": quantity}
