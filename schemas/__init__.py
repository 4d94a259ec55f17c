"""The nouns of Tidegate: what comes in, what intake writes, what goes out. Imports nothing else of ours."""
