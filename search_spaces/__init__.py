"""Study files: the code that reads them, and the studies that ship with the project."""
