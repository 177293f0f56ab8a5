"""Somebody in the middle: ends the caller's TLS, may change what passes, and goes on to the service.

It has a certificate that its victim trusts, as a company's proxy has; what it cannot have is the key that
requests are signed with.
"""

import http.client
import http.server
import pathlib
import ssl
import subprocess
import threading
import urllib.parse

# What belongs to one connection and not to the message (RFC 9110, section 7.6.1).
HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")


class Middle:
    """Listens on a port of its own; `change(headers, body)` answers what goes on in their place."""

    def __init__(self, service, directory):
        self.change = lambda headers, body: (headers, body)
        self.passed = 0
        directory = pathlib.Path(directory)
        self.ca = str(directory / "middle.pem")
        key = str(directory / "middle.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", self.ca, "-days", "2", "-subj", "/CN=middle",
             "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler(service))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"https://localhost:{self.server.server_port}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _handler(self, service):
        middle = self
        target = urllib.parse.urlsplit(service.endpoints["api"])
        context = ssl.create_default_context(cafile=service.ca)

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers, body = middle.change(list(self.headers.items()), body)
                middle.passed += 1
                onward = http.client.HTTPSConnection(target.hostname, target.port, context=context)
                # The host stays the one that was signed.
                onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers:
                    if name.lower() not in HOP:
                        onward.putheader(name, value)
                onward.putheader("Content-Length", str(len(body)))
                onward.endheaders(body)
                answer = onward.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                onward.close()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

            def log_message(self, *_):
                pass

        return Handler
