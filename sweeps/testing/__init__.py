"""Contract suites: pytest classes that test the requirements of every kind of plug-in."""
