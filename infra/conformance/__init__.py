"""Conformance: margin models held to numbers that venues publish."""
