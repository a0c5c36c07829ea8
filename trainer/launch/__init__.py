"""From what a user asks for to a run: a new one, or one that is resumed."""
