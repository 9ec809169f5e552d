"""Runs a program on a terminal of its own: sends keys, waits for what is shown, changes the size, keeps every byte, and
for each change of size how many bytes were seen before it, in OUTPUT.sizes.

usage: on_a_terminal.py STEPS.json OUTPUT PROGRAM ARGUMENTS...
A step is ["size", columns, rows], ["expect", text], ["send", text] or ["rest", milliseconds]: waits until nothing was
shown for that long.
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

PATIENCE = 60.0


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        steps = json.load(file)
    columns, rows = next((step[1:] for step in steps if step[0] == "size"), (80, 24))
    pid, terminal = pty.fork()
    if pid == 0:
        time.sleep(0.05)
        os.execv(sys.argv[3], sys.argv[3:])
    size = lambda c, r: fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", r, c, 0, 0))
    size(columns, rows)
    seen = bytearray()
    sizes = []
    looked = 0

    def read(seconds: float) -> bool:
        if not select.select([terminal], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            piece = b""
        seen.extend(piece)
        return bool(piece)

    for step in steps:
        if step[0] == "size":
            size(step[1], step[2])
            sizes.append([len(seen), step[1], step[2]])
        elif step[0] == "send":
            os.write(terminal, step[1].encode())
        elif step[0] == "rest":
            while read(step[1] / 1000):
                pass
        elif step[0] == "expect":
            begun = time.monotonic()
            while step[1].encode() not in seen[looked:]:
                if time.monotonic() - begun > PATIENCE:
                    print(f"waited for {step[1]!r}, saw {bytes(seen[looked:])!r}", file=sys.stderr)
                    return 1
                read(1.0)
            looked = seen.index(step[1].encode(), looked) + len(step[1].encode())
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE and read(PATIENCE):
        pass
    with open(sys.argv[2], "wb") as file:
        file.write(seen)
    with open(sys.argv[2] + ".sizes", "w", encoding="utf-8") as file:
        json.dump(sizes, file)
    os.waitpid(pid, 0)
    return 0


sys.exit(main())
