"""Objectives, burn rates, rules, the alert life cycle, budgets. Pure: no I/O, no clock of its own."""
