"""Faults, leases and undo, drills, verdicts. Reads the same alert transitions that an operator gets."""
