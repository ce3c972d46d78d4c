"""Text to nouns: YAML with line numbers, the Einsum grammar, cascades, machines, mappings."""
