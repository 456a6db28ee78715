"""Plots and contact sheets that verbs draw."""
