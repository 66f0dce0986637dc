"""The engine: the clock, the pump that claims what is due, the runner that runs it, and the drain."""
