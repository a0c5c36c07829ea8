"""The report of a run: one HTML file that needs nothing else. The figures are drawn here for TensorBoard too."""
