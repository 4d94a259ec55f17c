"""Tests against a real broker; they skip where there is none to be had."""
