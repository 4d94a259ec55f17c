"""Synthetic input: a seeded crash day for the demo, and plain streams for throughput runs."""
