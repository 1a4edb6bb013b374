"""Containers: crun runs them, conmon watches over them, overlayfs gives them a root, the engine their network."""

from fairlead.containers.record import Container, ContainerSpec
from fairlead.containers.service import Containers

__all__ = ["Container", "ContainerSpec", "Containers"]
