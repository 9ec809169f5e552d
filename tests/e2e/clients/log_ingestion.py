"""Stands for Log Analytics: gives tokens, takes rows, and notes each delivery as a line of a file.

usage: log_ingestion.py PORT FILE
"""

import gzip, http.server, json, sys, urllib.parse

class Far(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        at = urllib.parse.urlsplit(self.path)
        if at.path.endswith('/oauth2/v2.0/token'):
            asked = dict(urllib.parse.parse_qsl(body.decode()))
            answer = json.dumps({'token_type': 'Bearer', 'expires_in': 3600, 'access_token': 'for ' + asked['scope']})
            self.send_response(200)
            self.send_header('content-type', 'application/json')
            self.send_header('content-length', str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())
            return
        headers = {name: self.headers[name] for name in ('authorization', 'content-type', 'content-encoding')}
        rows = json.loads(gzip.decompress(body))
        with open(sys.argv[2], 'a') as notes:
            notes.write(json.dumps({'path': at.path, 'query': at.query, 'headers': headers, 'rows': rows}) + '\n')
        self.send_response(204)
        self.end_headers()

http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Far).serve_forever()
