"""A session with a WebSocket server: python-web websockets.py URL HOST [CA]."""

import ssl
import sys

import websocket

url, host = sys.argv[1], sys.argv[2]
options = {"host": host}
if len(sys.argv) > 3:
    options["sslopt"] = {
        "ca_certs": sys.argv[3],
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": host,
    }
connection = websocket.create_connection(url, timeout=60, **options)
for text in ("hello", "", "x" * 100):
    connection.send(text)
    answer = connection.recv()
    assert answer == text, answer
connection.close(timeout=60)
print("ok")
