"""Seeded books and market paths of any size, and a run in which a screening policy and the judge decide side by side.

``python -m tests.simulator --accounts 100000 --path crash --hours 1 --policy exhaustive --json`` is one judged run.

- ``venue.py``: two underlyings with every kind of instrument, or fifty with few; about 500 instruments.
- ``books.py``: accounts with 5 to 20 positions of five styles, 1 % of them within 5 % of maintenance.
- ``paths.py``: what the market does: a calm day, a crash, and so on; one frame a tick.
- ``real.py``: two days that were recorded, where their files are at hand.
- ``activity.py``: what traders and the venue do meanwhile, with ``auctions.py``, in which liquidation orders fill, and
  ``resting.py``, traders' own open orders.
- ``judged.py``: the run: one market, the policy's book, and the judge; ``report.py``: what it came to.

What is made are ledger frames, not events: a million accounts and 86,400 ticks never pass through intake. The frames
are whole (fills have two sides, cash and positions sum to zero), but carry no hash chain, which no step behind intake
reads. Everything follows from the seed, the size and the path.
"""
