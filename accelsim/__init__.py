"""accelsim: an analytical model and simulator of attention on accelerators."""

__version__ = "0.1.0"
