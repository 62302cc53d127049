"""Alerts: told at once when a word is read."""
