"""Builders of the tiny checkpoints under fixtures/models, one file per family."""
