"""Finding better cascades by algebra: normal forms, rewrites, search, judgement."""
