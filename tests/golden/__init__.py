"""Cases of our own, computed by plain implementations that share nothing with the models."""
