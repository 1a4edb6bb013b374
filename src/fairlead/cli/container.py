"""The commands on containers that exist: start to attach."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from fairlead.cli.client import ApiError, Client, segment
from fairlead.cli.flags import EXPLAIN, Command, Failure, Flag, Options
from fairlead.cli.output import each, print_lines
from fairlead.cli.parse import detach_keys, environment, moment
from fairlead.cli.quick import loads
from fairlead.cli.stream import (
    DETACH_KEYS,
    Output,
    proxied_signals,
    pump,
    raw_terminal,
    require_terminal,
    window_size,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fairlead.cli.client import Value


def exit_code_of(message: str, default: int) -> int:
    """The exit code that docker gives a failed start, by its text: 127 no such program, 126 not executable."""
    text = message.lower()
    if any(hint in text for hint in ("executable file not found", "no such file or directory", "not found in $path")):
        return 127
    if "permission denied" in text or "is a directory" in text or "exec format error" in text:
        return 126
    return default


def act(method: str, path: str, **query: Value) -> Callable[[Client, str], str | None]:
    """An action on one container; its word is printed when it is done, the lines when it is explained."""

    def one(client: Client, word: str) -> str | None:
        answer = client.request(method, path.format(segment(word)), query=query)
        if query.get("explain"):
            print_lines(loads(answer.read() or b"null"))
            return None
        answer.read()
        return word

    return one


def _each(words: list[str], one: Callable[[Client, str], str | None]) -> int:
    client = Client()
    return each(words, lambda word: one(client, word))


def _start(options: Options, words: list[str]) -> int:
    if not options.flag("attach") and not options.flag("interactive"):
        return _each(words, act("POST", "/containers/{}/start", explain=options.flag("explain")))
    if len(words) > 1:
        raise Failure("only one container can be started and attached to at once", 2)
    client = Client()
    container = client.get(f"/containers/{segment(words[0])}/json")
    keys = options.text("detach-keys", DETACH_KEYS)
    return run_attached(
        client,
        container["Id"],
        tty=container["Config"]["Tty"],
        stdin=options.flag("interactive") and container["Config"]["OpenStdin"],
        keys=detach_keys(keys),
        removed=container["HostConfig"]["AutoRemove"],
        sig_proxy=options.flag("sig-proxy", True),
    )


def run_attached(
    client: Client,
    container: str,
    *,
    tty: bool,
    stdin: bool,
    keys: bytes,
    removed: bool,
    sig_proxy: bool = True,
    stdout: bool = True,
    stderr: bool = True,
) -> int:
    """Attach, start, carry the streams, and return the container's exit code.

    The order matters: attached before the start, so that no output is lost, and waiting before it, so that a container
    that is gone at once still leaves its exit code.
    """
    connection, multiplexed = client.upgrade(
        f"/containers/{container}/attach", stream=True, stdin=stdin, stdout=stdout, stderr=stderr
    )
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        condition = "removed" if removed else "next-exit"
        waiting = client.request("POST", f"/containers/{container}/wait", query={"condition": condition})
        stack.callback(waiting.connection.close)
        stack.enter_context(proxied_signals(client, container, sig_proxy and not tty))
        client.post(f"/containers/{container}/start")
        stack.enter_context(raw_terminal(tty and stdin))
        stack.enter_context(window_size(client, f"/containers/{container}/resize", tty))
        detached = pump(connection, multiplexed=multiplexed, stdin=stdin, keys=keys if tty and stdin else b"")
        if detached:
            return 0
        return _wait_result(waiting.read())


def _wait_result(body: bytes) -> int:
    result = loads(body)
    if (result.get("Error") or {}).get("Message"):
        raise Failure(result["Error"]["Message"], 125)
    return int(result["StatusCode"])


def _attach(options: Options, words: list[str]) -> int:
    client = Client()
    container = client.get(f"/containers/{segment(words[0])}/json")
    id_, config, state = container["Id"], container["Config"], container["State"]
    if not state["Running"]:
        raise Failure("you cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Failure("you cannot attach to a paused container, unpause it first")
    stdin = config["OpenStdin"] and not options.flag("no-stdin")
    tty = config["Tty"]
    keys = detach_keys(options.text("detach-keys", DETACH_KEYS))
    with contextlib.ExitStack() as stack:
        waiting = client.request("POST", f"/containers/{id_}/wait", query={"condition": "not-running"})
        stack.callback(waiting.connection.close)
        connection, multiplexed = client.upgrade(
            f"/containers/{id_}/attach", stream=True, stdin=stdin, stdout=True, stderr=True
        )
        stack.callback(connection.close)
        stack.enter_context(proxied_signals(client, id_, options.flag("sig-proxy", True) and not tty))
        stack.enter_context(raw_terminal(tty and stdin))
        stack.enter_context(window_size(client, f"/containers/{id_}/resize", tty))
        if pump(connection, multiplexed=multiplexed, stdin=stdin, keys=keys if tty and stdin else b""):
            return 0
        return _wait_result(waiting.read())


def _exec(options: Options, words: list[str]) -> int:
    name, *command = words
    tty, stdin, detach = options.flag("tty"), options.flag("interactive"), options.flag("detach")
    if tty and stdin and not detach and not options.flag("explain"):
        require_terminal()
    body: dict[str, Any] = {
        "Cmd": command,
        "AttachStdin": stdin and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": tty,
        "Detach": detach,
        "Env": environment(options.many("env"), options.many("env-file"), os.environ),
        "WorkingDir": options.text("workdir"),
        "User": options.text("user"),
        "Privileged": options.flag("privileged"),
    }
    if tty and os.isatty(1):
        columns, lines = os.get_terminal_size(1)
        body["ConsoleSize"] = [lines, columns]
    client = Client()
    if options.flag("explain"):
        print_lines(client.post(f"/containers/{segment(name)}/exec", body, explain=True))
        return 0
    id_ = client.post(f"/containers/{segment(name)}/exec", body)["Id"]
    start = {"Detach": detach, "Tty": tty, "ConsoleSize": body.get("ConsoleSize")}
    try:
        if detach:
            client.post(f"/exec/{id_}/start", start)
            return 0
        connection, multiplexed = client.upgrade(f"/exec/{id_}/start", start)
    except ApiError as error:
        error.code = exit_code_of(str(error), 1)
        raise
    keys = detach_keys(options.text("detach-keys", DETACH_KEYS))
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        stack.enter_context(raw_terminal(tty and stdin))
        stack.enter_context(window_size(client, f"/exec/{id_}/resize", tty))
        if pump(connection, multiplexed=multiplexed, stdin=stdin, keys=keys if tty and stdin else b""):
            return 0
    return int(client.get(f"/exec/{id_}/json")["ExitCode"] or 0)


def _stop(options: Options, words: list[str]) -> int:
    return _each(words, _stopping("stop", options))


def _restart(options: Options, words: list[str]) -> int:
    return _each(words, _stopping("restart", options))


def _stopping(verb: str, options: Options) -> Callable[[Client, str], str | None]:
    return act(
        "POST",
        f"/containers/{{}}/{verb}",
        t=options.number("timeout"),
        signal=options.text("signal") or None,
        explain=options.flag("explain"),
    )


def _kill(options: Options, words: list[str]) -> int:
    signal = options.text("signal", "KILL")
    return _each(words, act("POST", "/containers/{}/kill", signal=signal, explain=options.flag("explain")))


def _rm(options: Options, words: list[str]) -> int:
    query: dict[str, Value] = {
        "force": options.flag("force"),
        "v": options.flag("volumes"),
        "explain": options.flag("explain"),
    }
    remove = act("DELETE", "/containers/{}", **query)

    def one(client: Client, word: str) -> str | None:
        try:
            return remove(client, word)
        except ApiError as error:
            if error.status == 404 and options.flag("force"):
                print(f"fairlead: {error}", file=sys.stderr)  # docker says so too, but it is no failure with --force
                return None
            raise

    return _each(words, one)


def _wait(_: Options, words: list[str]) -> int:
    client = Client()
    return each(words, lambda word: str(client.post(f"/containers/{segment(word)}/wait")["StatusCode"]))


def _logs(options: Options, words: list[str]) -> None:
    now = time.time()
    query: dict[str, Value] = {
        "stdout": True,
        "stderr": True,
        "follow": options.flag("follow"),
        "timestamps": options.flag("timestamps"),
        "details": options.flag("details"),
        "tail": options.text("tail", "all"),
        "since": moment(options.text("since"), now) if options.has("since") else None,
        "until": moment(options.text("until"), now) if options.has("until") else None,
    }
    response = Client().request("GET", f"/containers/{segment(words[0])}/logs", query=query)
    output = Output(response.headers.get("content-type", "").endswith("multiplexed-stream"))
    for data in response.stream():
        output.feed(data)


_DETACH = Flag("--detach-keys", f'Keys that detach (default "{DETACH_KEYS}")', "text")
_PROXY = Flag("--sig-proxy", "Send received signals to the container (default true)")
_MANY = "[OPTIONS] CONTAINER [CONTAINER...]"
_STOP_FLAGS = (
    Flag("-s --signal", "Signal to send instead of the container's stop signal", "text"),
    Flag("-t --time --timeout", "Seconds to wait before killing the container (-1: for ever)", "number"),
    EXPLAIN,
)

START = Command(
    "start",
    _MANY,
    "Start one or more stopped containers",
    _start,
    (
        Flag("-a --attach", "Attach stdout and stderr, and forward signals"),
        Flag("-i --interactive", "Attach stdin"),
        _DETACH,
        _PROXY,
        EXPLAIN,
    ),
    (1, None),
)
STOP = Command("stop", _MANY, "Stop one or more running containers", _stop, _STOP_FLAGS, (1, None))
RESTART = Command("restart", _MANY, "Restart one or more containers", _restart, _STOP_FLAGS, (1, None))
KILL = Command(
    "kill",
    _MANY,
    "Kill one or more running containers",
    _kill,
    (Flag("-s --signal", 'Signal to send (default "KILL")', "text"), EXPLAIN),
    (1, None),
)
RM = Command(
    "rm",
    _MANY,
    "Remove one or more containers",
    _rm,
    (
        Flag("-f --force", "Kill a running container first"),
        Flag("-v --volumes", "Remove its anonymous volumes"),
        EXPLAIN,
    ),
    (1, None),
)
EXEC = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run a command in a running container",
    _exec,
    (
        Flag("-d --detach", "Run the command in the background"),
        Flag("-i --interactive", "Keep stdin open"),
        Flag("-t --tty", "Give it a terminal"),
        Flag("-e --env", "Set environment variables", "list"),
        Flag("--env-file", "Read environment variables from a file", "list"),
        Flag("-w --workdir", "Working directory inside the container", "text"),
        Flag("-u --user", "User name or number (name|uid[:group|gid])", "text"),
        Flag("--privileged", "Give it all capabilities"),
        EXPLAIN,
        _DETACH,
    ),
    (2, None),
    stop=True,
)
LOGS = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    _logs,
    (
        Flag("-f --follow", "Go on as more is written"),
        Flag("-n --tail", 'Lines from the end (default "all")', "text"),
        Flag("--since", "Only what is newer than a time or duration, such as 10m", "text"),
        Flag("--until", "Only what is older than a time or duration", "text"),
        Flag("-t --timestamps", "Show when each line was written"),
        Flag("--details", "Show the labels and variables that --log-opt labels and env name"),
    ),
    (1, 1),
)
WAIT = Command(
    "wait", "CONTAINER [CONTAINER...]", "Wait until containers stop, then print their exit codes", _wait, (), (1, None)
)
ATTACH = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach the terminal to a running container",
    _attach,
    (Flag("--no-stdin", "Do not attach stdin"), _DETACH, _PROXY),
    (1, 1),
)
