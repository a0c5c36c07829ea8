"""Proofs on the user's machine: exact resume, equal devices, a sound installation."""
