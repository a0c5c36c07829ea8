"""Tables: from files and data frames to rows of numbers."""
