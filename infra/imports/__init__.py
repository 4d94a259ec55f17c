"""Importers: public data formats into event logs that intake accepts."""
