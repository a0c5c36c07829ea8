"""The report of a run: one self-contained HTML file. Also draws the charts for TensorBoard."""
