"""Kafka: a broker to run, topics to keep, and nothing that decides."""
