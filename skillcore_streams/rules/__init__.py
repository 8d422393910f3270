"""Plain arithmetic and policy: no I/O, no clock, no async."""
