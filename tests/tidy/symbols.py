#!/usr/bin/python3
"""No two rooms of the daemon define one name: the linker would take either, and say nothing.

    symbols.py BUILD       a build folder whose rooms are built
"""

import os
import subprocess
import sys


def archives(build):
    for top in ("brokerd", os.path.join("libbroker", "wire"), os.path.join("libbroker", "tls")):
        for folder, _, files in os.walk(os.path.join(build, top)):
            yield from (os.path.join(folder, f) for f in files if f.endswith(".a"))


def main():
    seen, twice = {}, 0
    for archive in sorted(archives(sys.argv[1])):
        room = os.path.basename(archive)
        listed = subprocess.run(["nm", "-g", "--defined-only", archive], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            fields = line.split()
            if len(fields) != 3 or fields[1] not in "TDBR":
                continue
            other = seen.setdefault(fields[2], room)
            if other != room:
                print(f"{fields[2]}: defined in {other} and in {room}; give one of them a name of its own")
                twice += 1
    if len(seen) < 100:
        print(f"only {len(seen)} names found in {sys.argv[1]}: is it built?")
        return 1
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main())
