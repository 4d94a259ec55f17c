"""A margin model of another package than Tidegate: see docs/margin-models.md."""
