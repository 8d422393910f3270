"""The demonstration: a district's school year through the whole system, and the proof that nothing was lost."""
