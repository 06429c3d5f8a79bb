"""Slow implementations, written from the published formulas alone."""
