"""The words of a text, cut and compared in one way by scoring, directions, audit and reports."""
