"""The demonstration: a district's attendance year through the whole system, and the proof that nothing was lost."""
