"""Finds plugins and tasks, checks their classes, and writes new ones."""
