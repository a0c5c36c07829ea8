"""Sources of batches: arrays in memory, tables on disk, and Gluon's DataLoader."""
