"""Fairlead itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench.engine_peer import EnginePeer
from bench.peer import Sample, run, seconds
from bench.stage import Stage


class Fairlead(EnginePeer):
    """The daemon of this checkout."""

    name = "fairlead"
    cli = str(Path(sys.executable).parent / "fairlead")
    programs = ("fairlead", "fairlead-keeper", "fairlead-names", "conmon")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.run_directory = Path("/run/bench-fairlead")
        self.socket = self.run_directory / "fairlead.sock"
        self.daemon = [self.cli, "daemon"]
        os.environ["FAIRLEAD_STATE"] = str(stage.directory / "fairlead")
        os.environ["FAIRLEAD_RUN"] = str(self.run_directory)

    def environment(self) -> dict[str, str]:
        here = {name: os.environ[name] for name in ("FAIRLEAD_STATE", "FAIRLEAD_RUN")}
        return {**super().environment(), **here, "FAIRLEAD_HOST": f"unix://{self.socket}"}

    def prepare_attach(self) -> None:
        self.add_sandbox("subject")

    def forget_subject(self) -> None:
        self.http.send("DELETE", "/fairlead/netns/subject")

    def add_sandbox(self, name: str) -> None:
        self.http.send("POST", "/fairlead/netns", {"Name": name})

    def crowd(self, count: int) -> None:
        """Have `count` endpoints present in the network ``crowd``, besides the one that is attached and detached."""
        if not hasattr(self, "_crowd"):
            self._crowd = 0
            subnet = {"Config": [{"Subnet": "10.202.0.0/16"}]}
            self.http.send("POST", "/networks/create", {"Name": "crowd", "IPAM": subnet})
        for number in range(self._crowd, count):
            self.add_sandbox(f"crowd{number}")
            self.attach_one(f"crowd{number}", "crowd")
        self._crowd = count

    def attach_in_crowd(self) -> Sample:
        took = seconds(lambda: self.attach_one("subject", "crowd"))
        self.detach_one("subject", "crowd")
        return {f"attach, {self._crowd} present": took}

    def look(self) -> Sample:
        """Draw everything that is there, and look for what is wrong with it; by the command line, as people do."""

        def took(*words: str) -> float:
            return seconds(lambda: run(self.cli, *words, env=self.environment()))

        return {
            f"topology, {self._crowd} present": took("topology"),
            f"topology as JSON, {self._crowd} present": took("topology", "--format", "json"),
            f"topology as SVG, {self._crowd} present": took("topology", "--format", "svg"),
            f"doctor, {self._crowd} present": took("doctor"),
        }
