"""The same calls to Docker and to Fairlead, and what may differ in the answers."""
