"""The data plane's upgrade request, by hand."""

import socket
import ssl


def handshake(service, token, mode="source", client_token=None, keep=None):
    """Status and body of the answer; the connection goes to the list `keep`, or is closed."""
    context = ssl.create_default_context(cafile=service.ca)
    plain = socket.create_connection(("localhost", service.tunnel_port), timeout=20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    lines = [
        f"GET /tunnel?local-proxy-mode={mode} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0",
        f"access-token: {token}",
    ]
    if client_token:
        lines.append(f"client-token: {client_token}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = connection.recv(4096)
        if not more:
            break
        answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status != 101:
        while more := connection.recv(4096):
            body += more
    if keep is None:
        connection.close()
    else:
        keep.append(connection)
    return status, body.decode(errors="replace")
