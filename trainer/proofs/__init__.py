"""Proofs on the user's machine: exact resume, equal results on all devices, a working installation."""
