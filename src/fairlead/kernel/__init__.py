"""The only package that touches the kernel."""


class Kernel:
    """Handed to every step; opens what the steps need."""
