"""Objectives of learning without labels: pure functions of named tensors that return a loss and its parts."""
