"""From what a user asks for to a run, new or resumed."""
