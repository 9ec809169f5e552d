"""Sends rows, a JSON array on standard input, with the vendor's own client.

usage: log_ingestion_client.py URL RULE STREAM
"""

import json, sys, time
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.monitor.ingestion import LogsIngestionClient


class OnLoopback(SansIOHTTPPolicy):
    """Lets the token go to a far end without TLS."""

    def on_request(self, request):
        request.context.options["enforce_https"] = False


class Known:
    def get_token(self, *scopes, **_):
        return AccessToken("for " + scopes[0], int(time.time()) + 3600)


endpoint, rule, stream = sys.argv[1:]
client = LogsIngestionClient(endpoint, Known(), per_call_policies=[OnLoopback()])
client.upload(rule_id=rule, stream_name=stream, logs=json.load(sys.stdin))
