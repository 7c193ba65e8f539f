#!/usr/bin/env python3
"""A tidy that cannot fail is a lie: each check is shown a small tree that breaks it, and one that does not."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tidy

HEADER = "/*\n * Owns:            x\n * May use:         x\n * Never knows:     x\n * Start reading at x.\n */\n"
MAP = (
    "# Architecture\n\n`fronts -> door, net, wire` · `store -> engine (its interface), base, wire` · `engine -> base, wire` · "
    "`main -> all` · `cli -> broker.h`.\n"
)

GOOD = {
    "docs/ARCHITECTURE.md": MAP,
    ".clang-format": "BasedOnStyle: LLVM\nIndentWidth: 4\nColumnLimit: 120\nBreakBeforeBraces: Linux\n",
    "libbroker/include/broker/broker.h": "int broker;\n",
    "libbroker/wire/wire.h": HEADER + "#include <broker/broker.h>\n#include <msgpack.h>\n",
    "brokerd/base/buf.h": "int buf;\n",
    "brokerd/engine/engine.h": HEADER + '#include "buf.h"\n',
    "brokerd/engine/engine_internal.h": "int internal;\n",
    "brokerd/store/store.h": HEADER + '#include "engine.h"\n',
    "brokerd/store/store.c": '#include "store.h"\n#include "wire.h"\n#include <string.h>\n\n'
    'int store(void)\n{\n    /* strcpy(a, b) in a comment */\n    return item.time(0) + snprintf(b, n, "rand()");\n}\n',
    "brokerd/net/net.h": HEADER + "#include <ev.h>\n",
    "brokerd/main.c": '#include "store.h"\n',
    "cli/main.c": "#include <broker/broker.h>\n",
}


def tree(extra):
    root = tempfile.mkdtemp(prefix="tidy-test-")
    for name, text in {**GOOD, **extra}.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="") as f:
            f.write(text)
    return root


class TidyTest(unittest.TestCase):
    def findings(self, extra, check=None):
        root = tree(extra)
        try:
            return [(path, text) for _, path, _, text in tidy.run(root, [check] if check else tidy.CHECKS)]
        finally:
            shutil.rmtree(root)

    def assert_found(self, check, name, text, words):
        found = self.findings({name: text}, check)
        self.assertTrue(any(path == name and words in said for path, said in found), f"{words!r} not in {found}")

    def test_good_tree(self):
        if shutil.which("clang-format-14") or shutil.which("clang-format"):
            self.assertEqual(self.findings({}), [])

    def test_edges(self):
        for name, text, words in [
            ("brokerd/store/store.c", '#include "net.h"\n', "store may not include net"),
            ("brokerd/store/store.c", '#include "engine_internal.h"\n', "private to engine"),
            ("tests/sim/sim.c", '#include "engine_internal.h"\n', "private to engine"),
            ("brokerd/fronts/tcp/front_tcp.c", '#include "store.h"\n', "tcp may not include store"),
            ("brokerd/store/store.c", '#include "../engine/engine.h"\n', "no ../"),
            ("cli/main.c", '#include "wire.h"\n', "cli may not include wire"),
            ("brokerd/store/store.c", "#include <ev.h>\n", "belongs to net"),
            ("brokerd/net/net.c", "#include <msgpack.h>\n", "belongs to"),
            ("brokerd/store/store.c", "#include <cmocka.h>\n", "belongs to test"),
            ("brokerd/elsewhere/x.c", "int x;\n", "lies in no room"),
        ]:
            with self.subTest(words):
                self.assert_found(tidy.check_edges, name, text, words)

    def test_allowed_edges(self):
        for name, text in [
            ("brokerd/store/store_test.c", "#include <cmocka.h>\n"),
            ("brokerd/engine/engine.c", '#include "engine_internal.h"\n#include <broker/broker.h>\n'),
            ("tests/sim/sim.c", '#include "engine.h"\n#include "store.h"\n#include "world.h"\n'),
            ("brokerd/main.c", '#include "net.h"\n#include "store.h"\n#include <systemd/sd-daemon.h>\n'),
        ]:
            with self.subTest(name):
                self.assertEqual(self.findings({name: text}, tidy.check_edges), [])

    def test_missing_map(self):
        self.assert_found(tidy.check_edges, "docs/ARCHITECTURE.md", "nothing\n", "no include map")

    def test_room_headers(self):
        self.assert_found(tidy.check_room_headers, "brokerd/net/net.h", "int x;\n", "Owns")

    @unittest.skipUnless(shutil.which("clang-format-14") or shutil.which("clang-format"), "no clang-format")
    def test_layout(self):
        self.assert_found(tidy.check_layout, "cli/main.c", "int   x;\n", "clang-format would change")

    def test_whitespace(self):
        for text, words in [("int x; \n", "trailing"), ("\tint x;\n", "tab"), ("int x;", "no newline"), ("int x;\r\n", "carriage")]:
            self.assert_found(tidy.check_whitespace, "cli/main.c", text, words)

    def test_calls(self):
        for call in ("strcpy(a, b)", "strcat (a, b)", "sprintf(a, b)", "rand()", "time(NULL)", "atoi(x)", "sleep(1)", "clock_now()"):
            with self.subTest(call):
                self.assert_found(tidy.check_calls, "brokerd/store/x.c", f"int f(void)\n{{\n    return {call};\n}}\n", call.split("(")[0].strip())
        for text in ("x->time(1);\n", "wait_time(1);\n", '"rand()";\n', "// time(0)\n", "snprintf(a, 1, b);\n"):
            with self.subTest(text):
                self.assertEqual(self.findings({"brokerd/store/x.c": text}, tidy.check_calls), [])

    def test_sizes(self):
        self.assert_found(tidy.check_sizes, "cli/x.c", "int f(void)\n{\n" + "    x();\n" * 101 + "}\n", "f has 101 lines")
        self.assert_found(tidy.check_sizes, "cli/x.c", "int x;\n" * 701, "701 lines")
        self.assertEqual(self.findings({"cli/x.c": "int f(void)\n{\n" + "    x();\n" * 100 + "}\n"}, tidy.check_sizes), [])

    def test_dev_commands(self):
        dev = "cmd_test() { # - x\n}\n"
        found = self.findings({"dev": dev, "HACKING.md": "run `./dev tset`\n"}, tidy.check_dev_commands)
        self.assertEqual({text for _, text in found}, {"does not say what ./dev test does", "./dev tset: there is no such command"})

    def test_cli_commands(self):
        table = 'static const struct command commands[] = {\n    {"pub", "QUEUE", 1, 2, "publish"},\n    {"frob", "", 0, 0, "x"},\n};\n'
        found = self.findings({"cli/main.c": table, "README.md": "`broker pub q`\n"}, tidy.check_cli_commands)
        self.assertEqual(found, [("cli/main.c", "`broker frob` is in no document")])

    def test_tables(self):
        header = '    X(OK, 0, 200, 0, "success")\n    X(IO, 27, 500, 0, "failed")\n'
        found = self.findings(
            {"libbroker/include/broker/broker.h": header, "docs/PROTOCOL.md": "| 0 | OK |\n| 28 | IO |\n"}, tidy.check_tables
        )
        self.assertEqual([path for path, _ in found], ["docs/PROTOCOL.md"])
        self.assertIn("IO and its number 27", found[0][1])

    def test_options(self):
        self.assert_found(tidy.check_options, "conf/brokerd.ini", "[tcp]\n; port\nport = 1\nhost = x\n", "without a comment")

    def test_links(self):
        self.assert_found(tidy.check_links, "README.md", "[x](docs/NOTHING.md)\n", "leads nowhere")
        self.assertEqual(self.findings({"README.md": "[x](docs/ARCHITECTURE.md#map) [y](https://x.y)\n"}, tidy.check_links), [])

    def test_exit_status(self):
        script = os.path.join(os.path.dirname(os.path.abspath(tidy.__file__)), "tidy.py")
        root = tree({"cli/x.c": "int x; \n"})
        try:
            self.assertEqual(subprocess.run([sys.executable, script, "--root", root], stdout=subprocess.DEVNULL).returncode, 1)
        finally:
            shutil.rmtree(root)


if __name__ == "__main__":
    unittest.main()
