"""Ray: one launch of a study, and where its trials run."""
