"""Fairlead side by side with Docker, Podman and CNI on one machine, in one run: ``make bench``."""
