"""Contract suites: what every plug-in keeps to, as pytest classes."""
