"""Images: import, load, pull, tag, remove, and the unpacked layers that containers stand on.

reference   names of images
layout      where blobs and layers lie
manifest    what an image says about itself
platforms   which images run where
skopeo      fetching from registries
search      asking a registry's index
archive     reading docker and OCI archives
unpack      from a packed tar to a directory for overlayfs
changes     Dockerfile words for `import` and `commit`
saving      archives that Docker loads, and pushing
derive      new images, of a layer or out of another
explain     all of that as shell lines
images      the operations
"""

from fairlead.images.images import Images
from fairlead.images.record import Image, Progress
from fairlead.images.reference import Reference
from fairlead.images.skopeo import Credentials

__all__ = ["Credentials", "Image", "Images", "Progress", "Reference"]
