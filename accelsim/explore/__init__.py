"""The whole story on one page: load, analyse, map, estimate.  Alone composes all layers."""
