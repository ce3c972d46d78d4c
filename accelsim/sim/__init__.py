"""The independent witness: a mapping run tile by tile in whole cycles (design, section 4)."""
