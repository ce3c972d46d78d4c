"""The nouns: cascade, operations, problem, architecture, mapping; the language's NumPy meaning."""
