"""What is true of a cascade on any machine."""
