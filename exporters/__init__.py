"""Where results go: sinks, and what reads them back."""
