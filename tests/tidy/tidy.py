#!/usr/bin/env python3
"""Checks the tree itself: what a compiler does not see and a reviewer tires of.

usage: tidy.py [--root DIR] [--list]

Every check is a function that yields findings (path, line, text); CHECKS lists them. A finding fails the run; a line that
begins with "note" only says what has grown long.
"""

import argparse
import os
import re
import subprocess
import sys

FUNCTION_WISH, FUNCTION_LIMIT = 70, 100
FILE_WISH, FILE_LIMIT = 500, 700
TEST_LIMIT = 1000  # a test file is a list: its length hurts less

# Where each room lives. The first folder that matches wins, so the deeper ones come first.
ROOMS = [
    ("libbroker/include/", "api"),
    ("libbroker/wire/", "wire"),
    ("libbroker/tls/", "tls"),
    ("libbroker/client/", "client"),
    ("libbroker/examples/", "cli"),  # an example may use what any program may
    ("brokerd/base/", "base"),
    ("brokerd/engine/", "engine"),
    ("brokerd/store/", "store"),
    ("brokerd/net/", "net"),
    ("brokerd/door/", "door"),
    ("brokerd/fronts/tcp/", "tcp"),
    ("brokerd/fronts/control/", "control"),
    ("brokerd/fronts/forms/", "forms"),
    ("brokerd/fronts/http/", "http"),
    ("brokerd/fronts/rest/", "rest"),
    ("brokerd/fronts/sse/", "sse"),
    ("brokerd/fronts/websocket/", "websocket"),
    ("brokerd/metrics/", "metrics"),
    ("brokerd/console/", "console"),
    ("brokerd/conf/", "conf"),
    ("cli/", "cli"),
    ("tests/", "tests"),
]

# Headers that another room may see. Everything else of a room is its own.
PUBLIC_HEADERS = {
    "libbroker/include/broker/broker.h": "api",
    "libbroker/wire/wire.h": "wire",
    "brokerd/engine/engine.h": "engine",
    "brokerd/store/store.h": "store",
    "brokerd/net/net.h": "net",
    "brokerd/net/lender.h": "net",
    "brokerd/door/door.h": "door",
    "brokerd/door/clients.h": "door",
    "brokerd/fronts/tcp/front_tcp.h": "tcp",
    "brokerd/fronts/control/control.h": "control",
    "brokerd/fronts/forms/forms.h": "forms",
    "brokerd/fronts/http/http.h": "http",
    "brokerd/fronts/rest/rest.h": "rest",
    "brokerd/fronts/sse/sse.h": "sse",
    "brokerd/fronts/sse/sse_stream.h": "sse",
    "brokerd/fronts/websocket/websocket.h": "websocket",
    "brokerd/metrics/metrics.h": "metrics",
    "brokerd/console/console.h": "console",
    "libbroker/tls/digest.h": "tls",
    "brokerd/conf/conf.h": "conf",
}
PUBLIC_FOLDERS = {"brokerd/base/": "base"}  # several small headers, like a C library

# Who may see the inside of another room, and why.
FRIENDS = [
    ("tests/bench/", "cli"),  # the peers' drivers count and print as `broker bench` does: its args, histogram, json
    ("tests/fuzz/fuzz_filter.c", "engine"),  # a parser inside the engine, fed without an engine around it
]

# Libraries that one room, or a few, wrap for all others.
LIBRARY_HEADERS = [
    (r"ev\.h$", {"net"}),
    (r"msgpack(\.h|/)", {"wire", "client", "engine", "tcp", "control", "forms", "rest", "websocket", "metrics", "cli", "tests"}),
    (r"ini\.h$", {"conf"}),
    (r"isa-l", {"wire", "tests"}),
    (r"roaring", {"engine"}),
    (r"mbedtls/", {"tls"}),
    (r"llhttp", {"http"}),
    (r"wslay/", {"websocket"}),
    (r"zlib\.h$", {"websocket", "tests"}),
    (r"jansson\.h$", {"forms", "rest", "websocket", "cli", "tests"}),
    (r"systemd/", {"main", "net"}),
    (r"cmocka\.h$", {"test"}),
]

# Calls that nobody makes, with what to do instead, and where they are allowed all the same.
BANNED_CALLS = [
    (r"strcpy|strcat|stpcpy|sprintf|vsprintf|gets", "it cannot know the room: snprintf, memcpy or buf_append", ()),
    (r"strncpy|strncat", "it may leave the NUL out: snprintf or memcpy", ("_test.c",)),
    (r"strtok|asctime|ctime|gmtime|localtime", "it has hidden state: the _r form", ()),
    (r"atoi|atol|atoll|atof", "it hides errors: strtol and friends", ()),
    (r"rand|srand|random|srandom|drand48|rand_r", "chance is an argument; for a seed: getrandom", ()),
    (r"time|gettimeofday", "time is an argument; for a reading: base/clock", ()),
    (
        r"clock_gettime|clock",
        "time is an argument; for a reading: base/clock",
        ("brokerd/base/clock.c", "libbroker/client/", "libbroker/examples/", "cli/", "tests/", "_bench.c"),
    ),
    (
        r"clock_now|clock_mono_us",
        "only main, net and the log writers read a clock",
        ("brokerd/main.c", "brokerd/daemon.c", "brokerd/base/", "brokerd/net/", "brokerd/store/threads.c", "brokerd/store/uring.c", "tests/", "_test.c"),
    ),
    (
        r"sleep|usleep|nanosleep",
        "wait for what is awaited, with a deadline",
        ("tests/bench/", "tests/soak/", "cli/bench"),
    ),
    (r"alloca", "the stack has no error path: malloc", ()),
]


class Tree:
    """The files of the tree: those git knows or would add, or without git all that lie there."""

    def __init__(self, root):
        self.root = root
        self._text = {}
        try:
            listed = subprocess.run(
                ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, check=True
            ).stdout.decode()
            names = [n for n in listed.split("\0") if n]
        except (OSError, subprocess.CalledProcessError):
            names = []
            for folder, folders, files in os.walk(root):
                folders[:] = [f for f in folders if f not in (".git", "build", "__pycache__")]
                names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
        self.names = sorted(n for n in names if os.path.isfile(os.path.join(root, n)))

    def text(self, name):
        if name not in self._text:
            with open(os.path.join(self.root, name), "rb") as f:
                self._text[name] = f.read().decode("utf-8", "surrogateescape")
        return self._text[name]

    def c_files(self):
        return [n for n in self.names if n.endswith((".c", ".h"))]

    def text_files(self):
        skipped = ("tests/fuzz/corpus/",)
        kinds = (".c", ".h", ".md", ".txt", ".py", ".sh", ".ini", ".cmake", ".in", ".service", ".socket", ".conf")
        named = ("dev", ".ci/run", ".clang-format", ".gitignore")
        return [n for n in self.names if (n.endswith(kinds) or n in named) and not n.startswith(skipped)]


def bare(text):
    """C text with comments and literals blanked out; line numbers stay."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def room_of(name):
    for prefix, room in ROOMS:
        if name.startswith(prefix):
            return room
    if os.path.dirname(name) == "brokerd":
        return "main"  # main.c and what puts the rooms together
    return None


def is_test(name):
    shared = os.path.basename(name).startswith("test_")  # what the tests of a folder share
    return name.endswith("_test.c") or name.startswith("tests/") or "/test/" in name or shared


# ---- the rooms -----------------------------------------------------------------------------------------------------------


def allowed_edges(tree):
    """What docs/ARCHITECTURE.md says under "Who may include whom": {room: rooms}."""
    edges = {}
    for entry in re.findall(r"`(\w+) -> ([^`]*)`", tree.text("docs/ARCHITECTURE.md")):
        targets = re.sub(r"\([^)]*\)", "", entry[1])
        edges[entry[0]] = {"api" if t.strip() == "broker.h" else t.strip() for t in targets.split(",")}
    return edges


def resolve(tree, name, header):
    """The file of this tree that an #include "..." means, or None."""
    beside = os.path.normpath(os.path.join(os.path.dirname(name), header))
    if beside in tree.names:
        return beside
    found = [n for n in tree.names if n == header or n.endswith("/" + header)]
    own = [n for n in found if room_of(n) == room_of(name)]
    return (own or found or [None])[0]


def check_edges(tree):
    """include edges are those of the map in docs/ARCHITECTURE.md"""
    edges = allowed_edges(tree)
    if not edges:
        yield "docs/ARCHITECTURE.md", 1, "no include map found (lines with `room -> room, room`)"
        return
    for name in tree.c_files():
        room = room_of(name)
        if room is None:
            yield name, 1, "lies in no room: name its folder in the map and in tests/tidy"
            continue
        for number, line in enumerate(tree.text(name).split("\n"), 1):
            m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if not m:
                continue
            header = m.group(2)
            target = resolve(tree, name, header) if m.group(1) == '"' or header.startswith("broker/") else None
            if target:
                yield from check_edge(edges, name, number, room, target, header)
            else:
                yield from check_library(name, number, room, header)


def check_edge(edges, name, number, room, target, header):
    to = room_of(target)
    if ".." in header.split("/"):
        yield name, number, f'"{header}": no ../ in includes; the room\'s CMake target says what it may see'
    if room == "tests" and to == "tests":
        return
    public = target in PUBLIC_HEADERS or any(target.startswith(f) for f in PUBLIC_FOLDERS)
    if any(name.startswith(folder) and to == friend for folder, friend in FRIENDS):
        return
    if to != room and not public:
        yield name, number, f'"{header}" is private to {to}; its public header is all that other rooms see'
        return
    allowed = edges.get(room, set())
    if room == to or room == "tests" or "all" in allowed or to in allowed:
        return
    if to == "api" and (room == "api" or edges_reach_api(edges, room)):
        return
    yield name, number, f'{room} may not include {to} ("{header}"): the map in docs/ARCHITECTURE.md has no such edge'


def edges_reach_api(edges, room):
    """The error table (broker.h) is part of wire's and engine's headers, so whoever may see those sees it."""
    return bool({"wire", "engine"} & (edges.get(room, set()) | {room}))


def check_library(name, number, room, header):
    for pattern, rooms in LIBRARY_HEADERS:
        if re.match(pattern, header):
            if room not in rooms and not ("test" in rooms and is_test(name)):
                yield name, number, f"<{header}> belongs to {', '.join(sorted(rooms))} alone"


def check_room_headers(tree):
    """each room's public header opens with Owns / May use / Never knows / Start reading at"""
    for header, room in PUBLIC_HEADERS.items():
        if room == "api" or header not in tree.names:
            continue
        head = tree.text(header)[:1200]
        for words in ("Owns:", "May use:", "Never knows:", "Start reading at"):
            if words not in head:
                yield header, 1, f'the opening comment lacks "{words}"'


# ---- the text ------------------------------------------------------------------------------------------------------------


def check_layout(tree):
    """clang-format would change nothing"""
    names = tree.c_files()
    if not names:
        return
    for program in ("clang-format-14", "clang-format"):
        try:
            version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        except OSError:
            continue
        if " 14." in version:
            break
    else:
        yield ".clang-format", 1, "clang-format 14 is not installed: ./dev tidy installs it"
        return
    run = subprocess.run([program, "--dry-run", "--Werror", *names], cwd=tree.root, capture_output=True, text=True)
    seen = set()
    for m in re.finditer(r"^(.*?):(\d+):\d+: error:", run.stderr, re.M):
        if m.group(1) not in seen:
            seen.add(m.group(1))
            yield m.group(1), int(m.group(2)), "clang-format would change this file: ./dev format"
    if run.returncode != 0 and not seen:
        yield ".clang-format", 1, "clang-format failed: " + run.stderr.strip()[:200]


def check_whitespace(tree):
    """no trailing whitespace, no tabs in C, no carriage returns, a newline at the end"""
    for name in tree.text_files():
        text = tree.text(name)
        for number, line in enumerate(text.split("\n"), 1):
            if line.endswith((" ", "\t")) and not (name.endswith(".md") and line.endswith("  ")):
                yield name, number, "trailing whitespace"
            if "\r" in line:
                yield name, number, "carriage return"
            if "\t" in line and name.endswith((".c", ".h", ".py")):
                yield name, number, "tab"
        if text and not text.endswith("\n"):
            yield name, text.count("\n") + 1, "no newline at the end"


def check_calls(tree):
    """banned calls"""
    for name in tree.c_files():
        text = bare(tree.text(name))
        for calls, why, allowed in BANNED_CALLS:
            if any(name.startswith(a) or name.endswith(a) for a in allowed):
                continue
            # Not after . or -> (a member), nor after a type's name (a declaration of something else so called).
            for m in re.finditer(r"(?<![\w.>])(" + calls + r")\s*\(", text):
                yield name, text.count("\n", 0, m.start()) + 1, f"{m.group(1)}(): {why}"


def functions(text):
    """(first line, last line, name) of each function: its braces stand in column 0, as clang-format puts them."""
    lines = text.split("\n")
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            head = " ".join(lines[max(0, start - 5) : start - 1])
            names = re.findall(r"(\w+)\s*\(", head)
            yield start, number, names[-1] if names else "?"
            start = None


def check_sizes(tree, notes=None):
    """functions and files of a size that one can read"""
    for name in tree.c_files():
        lines = tree.text(name).count("\n")
        limit = TEST_LIMIT if is_test(name) else FILE_LIMIT
        if lines > limit:
            yield name, limit, f"{lines} lines: over {limit}; split it by meaning"
        elif lines > FILE_WISH and notes is not None and not is_test(name):
            notes.append((name, 1, f"{lines} lines; we wish for {FILE_WISH}"))
        for first, last, function in functions(tree.text(name)):
            length = last - first - 1
            if length > FUNCTION_LIMIT:
                yield name, first, f"{function} has {length} lines: over {FUNCTION_LIMIT}"
            elif length > FUNCTION_WISH and notes is not None:
                notes.append((name, first, f"{function} has {length} lines; we wish for {FUNCTION_WISH}"))


# ---- the documents ---------------------------------------------------------------------------------------------------------


def check_dev_commands(tree):
    """./dev's commands stand in HACKING.md, and HACKING.md names no others"""
    if "dev" not in tree.names or "HACKING.md" not in tree.names:
        return
    there = set(re.findall(r"^cmd_([a-z-]+)\(\)", tree.text("dev"), re.M)) - {"help"}
    documents = [n for n in ("HACKING.md", "README.md", "docs/OPERATIONS.md", "docs/ARCHITECTURE.md") if n in tree.names]
    for command in sorted(there):
        if f"./dev {command}" not in tree.text("HACKING.md"):
            yield "HACKING.md", 1, f"does not say what ./dev {command} does"
    for document in documents:
        for number, line in enumerate(tree.text(document).split("\n"), 1):
            for command in re.findall(r"\./dev ([a-z][a-z-]*)", line):
                if command not in there | {"help"}:
                    yield document, number, f"./dev {command}: there is no such command"


def check_cli_commands(tree):
    """every command of the broker program stands in README.md or docs/OPERATIONS.md"""
    tables = [n for n in tree.names if n.startswith("cli/") and n.endswith(".c")]
    documents = [n for n in tree.names if n.endswith(".md")]
    said = "\n".join(tree.text(n) for n in documents)
    commands = set()
    for name in tables:
        # A row of a command table: name, operands, how few and how many of them.
        row = r'^\s*\{"([a-z]+(?: [a-z]+)?)", "[^"]*", \d+, \d+,'
        commands |= {(name, c) for c in re.findall(row, tree.text(name), re.M)}
    for name, command in sorted(commands):
        if not re.search(r"\bbroker (\[[^]]*\] )?" + command.replace(" ", r"[ a-z|]*\b") + r"\b", said) and \
                not re.search(r"`" + command + r"`", said):
            yield name, 1, f"`broker {command}` is in no document"


def check_tables(tree):
    """the documents' tables have every error, frame and record of the headers, with its number (or HTTP status)"""
    tables = [
        ("libbroker/include/broker/broker.h", r"^    X\((\w+), (\d+),", "docs/PROTOCOL.md", int),
        ("libbroker/include/broker/broker.h", r"^    X\((?!OK,)(\w+), \d+, (\d+),", "docs/HTTP.md", int),
        ("libbroker/wire/wire.h", r"^    FRAME_(\w+) = (0x[0-9a-f]+),", "docs/PROTOCOL.md", lambda n: int(n, 16)),
        ("libbroker/wire/wire.h", r"^    RECORD_(\w+) = (\d+),", "docs/STORAGE.md", int),
    ]
    for header, pattern, document, number_of in tables:
        if header not in tree.names or document not in tree.names:
            continue
        said = tree.text(document).split("\n")
        for name, number in re.findall(pattern, tree.text(header), re.M):
            value = number_of(number)
            written = rf"(?<![\w]){re.escape(name)}(?![\w])"
            digits = rf"(?<![\w])({value}|0x{value:02x}|0x{value:x})(?![\w])"
            if not any(re.search(written, line) and re.search(digits, line, re.I) for line in said):
                yield document, 1, f"has no line with {name} and its number {number} ({header})"


def check_options(tree):
    """every option of conf/brokerd.ini is explained there"""
    name = "conf/brokerd.ini"
    if name not in tree.names:
        return
    lines = tree.text(name).split("\n")
    for number, line in enumerate(lines, 1):
        if re.match(r"[#; ]*[a-z_]+ *= *\S", line) and not re.match(r"\s*[#;]", lines[number - 2] if number > 1 else ""):
            yield name, number, "an option without a comment above it"


def check_links(tree):
    """links between documents lead somewhere"""
    for name in tree.names:
        if not name.endswith(".md"):
            continue
        for number, line in enumerate(tree.text(name).split("\n"), 1):
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                path = os.path.normpath(os.path.join(os.path.dirname(name), target))
                if not os.path.exists(os.path.join(tree.root, path)):
                    yield name, number, f"the link to {target} leads nowhere"


CHECKS = [
    check_edges,
    check_room_headers,
    check_layout,
    check_whitespace,
    check_calls,
    check_sizes,
    check_dev_commands,
    check_cli_commands,
    check_tables,
    check_options,
    check_links,
]


def run(root, checks=CHECKS, notes=None):
    tree = Tree(root)
    for check in checks:
        arguments = {"notes": notes} if check is check_sizes else {}
        for path, line, text in check(tree, **arguments):
            yield check, path, line, text


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Checks the tree itself.")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--list", action="store_true", help="say what is checked")
    options = parser.parse_args()
    if options.list:
        for check in CHECKS:
            print(f"{check.__name__[6:]:14} {check.__doc__}")
        return 0
    notes, bad = [], 0
    for _, path, line, text in run(options.root, notes=notes):
        print(f"{path}:{line}: {text}")
        bad += 1
    for path, line, text in notes:
        print(f"note: {path}:{line}: {text}")
    print(f"tidy: {bad} findings" if bad else "tidy: nothing to complain about")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
