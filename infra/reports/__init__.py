"""Reports: a run held against what really happened."""
