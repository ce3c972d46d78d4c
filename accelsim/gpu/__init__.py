"""Kernels and measurements on an NVIDIA GPU; the only package that imports CuPy, and late.

``device`` finds the GPU, ``board`` reads its sensors, ``kernel`` compiles and
launches CUDA C++ from ``kernels/``, ``measure`` times and weighs it, and the
other modules each hold one family of kernels: what it computes, the tiles it
takes, its launch and its float64 check.
"""
