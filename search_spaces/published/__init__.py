"""Study files that repeat published runs; each names its source."""
