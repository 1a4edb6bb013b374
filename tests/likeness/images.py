"""Scenarios: images."""

from __future__ import annotations

from likeness.client import Step, cli
from likeness.steps import container, delete, filtered, get, post


def committed(name: str, base: str) -> list[Step]:
    """Commit an image that has one file more than its base; the id is kept under its name."""
    return [
        container("maker", Image=base),
        cli("cp /etc/hostname maker:/of-" + name, output=False),
        post(f"/commit?container=maker&repo={name}", {"Labels": {"made": "1"}}, keep={name: "Id"}),
        delete("/containers/maker"),
    ]


LINE: list[Step] = [*committed("old", "alpine"), *committed("middle", "old"), *committed("young", "middle")]
"""Three images, each committed from the one before."""

IMAGES: dict[str, list[Step]] = {
    "images": [
        get("/images/json"),
        get("/images/json?all=1&digests=1"),
        get("/images/alpine/json"),
        get("/images/alpine:latest/history"),
        post("/images/alpine/tag?repo=mine&tag=1"),
        get("/images/mine:1/json"),
        filtered("/images/json", '{"reference":["mine"]}'),
        filtered("/images/json", '{"dangling":["true"]}'),
        filtered("/images/json", '{"label":["nope"]}'),
        container("cc"),
        delete("/images/alpine"),
        delete("/images/mine:1"),
        post("/images/create?fromImage=127.0.0.1:1/x&tag=1"),
        get("/distribution/127.0.0.1:1/x:1/json"),
        get("/images/search?term=x&limit=101"),
        get("/distribution/UPPER/json"),
    ],
    "images that others were committed from": [
        cli("run --rm alpine date +%s", output=False, keep="then"),
        *LINE,
        get("/images/json"),
        get("/images/young/json"),
        get("/images/young/history"),
        delete("/images/{old}"),
        delete("/images/{old}?force=1"),
        post("/images/old/tag?repo=other"),
        delete("/images/{old}"),
        delete("/images/{old}?force=1"),
        delete("/images/other"),
        delete("/images/old"),
        delete("/images/{old}"),
        delete("/images/{old}?force=1"),
        get("/images/json"),
        get("/images/json?all=1"),
        filtered("/images/json", '{"dangling":["true"]}'),
        filtered("/images/json", '{"dangling":["false"]}'),
        post("/images/prune"),
        get("/images/young/history"),
        delete("/images/middle"),
        delete("/images/young?noprune=1"),
        get("/images/json?all=1"),
        filtered("/images/json", '{"dangling":["true"]}'),
        delete("/images/{middle}"),
        delete("/images/{old}"),
        cli("run --rm alpine sleep 1.1", output=False),  # --until counts in whole seconds
        cli("events --since {then} --until 0s --filter type=image --filter event=delete --format {{.Action}}"),
    ],
    "images that go with others": [
        cli("run --rm alpine date +%s", output=False, keep="then"),
        *LINE,
        *committed("brother", "old"),
        delete("/images/old"),
        delete("/images/middle"),
        delete("/images/young"),
        get("/images/json?all=1"),
        container("user", Image="{old}"),
        delete("/images/brother"),
        get("/images/json?all=1"),
        delete("/images/{old}"),
        delete("/containers/user"),
        post("/images/prune"),
        *LINE,
        post("/images/middle/tag?repo=other"),
        delete("/images/old"),
        delete("/images/young"),
        delete("/images/{middle}"),
        delete("/images/{middle}?force=1"),
        get("/images/json?all=1"),
        *LINE,
        delete("/images/old"),
        container("user", Image="young"),
        cli("image prune -af --filter label=made", output=False),
        get("/images/json?all=1"),
        delete("/containers/user"),
        cli("image prune -af --filter label=made", output=False),
        get("/images/json?all=1"),
        cli("run --rm alpine sleep 1.1", output=False),  # --until counts in whole seconds
        cli("events --since {then} --until 0s --filter type=image --filter event=delete --format {{.Action}}"),
    ],
}
