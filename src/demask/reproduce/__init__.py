"""The paper's comparison: model × data set × arm × seed as run folders, and tables and figures of them."""
