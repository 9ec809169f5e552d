"""Serves the files of the current folder over HTTP on a port of loopback, and takes what is put there.

usage: files_over_http.py PORT
"""

import http.server
import pathlib
import sys


class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        with open(pathlib.Path(self.path).name, "wb") as file:
            while left > 0:
                piece = self.rfile.read(min(left, 65536))
                if not piece:
                    break
                file.write(piece)
                left -= len(piece)
        self.send_response(201 if left == 0 else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Files).serve_forever()
