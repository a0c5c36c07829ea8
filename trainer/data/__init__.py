"""Where batches come from: arrays in memory, tables on disk, and Gluon's own DataLoader."""
