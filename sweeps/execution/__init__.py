"""Ray: one launch of a study, and the machines and processes that its trials run on."""
