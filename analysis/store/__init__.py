"""From a store to a study of two data frames."""
