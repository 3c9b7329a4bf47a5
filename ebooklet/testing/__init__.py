"""Contract suites, test servers and faulty stand-ins: shipped, for authors of adapters."""
