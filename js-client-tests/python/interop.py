"""Speaks Engine.IO and Socket.IO by hand over `websockets`, whose permessage-deflate is not Node's.

usage: interop.py URL CASE

Ends with 0 when everything came as it was sent, byte for byte; what did not is
in the traceback.
"""

import http.client
import itertools
import json
import random
import sys
from urllib.parse import urlsplit

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate
from websockets.sync.client import connect

DEADLINE_S = 10
SIZES = [0, 1, 125, 126, 127, 1_000, 1_023, 1_024, 1_025, 65_535, 65_536, 1_000_000]

# Words compress, and noise hardly does; both have letters of one to four bytes.
WORDS = ["kpi ", "backlog ", "Zoë ", "待ち行列 ", "📈 "]
NOISE = [chr(point) for point in itertools.chain(range(0x23, 0x5B), range(0xC0, 0x17F), range(0x4E00, 0x9FA5), range(0x1F300, 0x1F5FF))]


def text_of(size, letters):
    """Text of that many bytes that JSON leaves as it is."""
    chance = random.Random(size)
    pieces, left = [], size
    while left > 0:
        piece = chance.choice(letters)
        length = len(piece.encode())
        pieces.append(piece if length <= left else "x" * left)
        left -= min(length, left)
    return "".join(pieces)


def texts():
    for size in SIZES:
        for letters in (WORDS, NOISE):
            yield text_of(size, letters)


class Client:
    """A socket in the main namespace that is authenticated and listens to `kpi`."""

    def __init__(self, url, **options):
        self.address = urlsplit(url)
        self.asked = 0
        path = "/ws/?EIO=4&transport=websocket"
        # No keepalive: its pings would come between the frames that are meant.
        self.socket = connect(f"ws://{self.address.netloc}{path}", proxy=None, ping_interval=None, max_size=None, **options)
        self.extensions = self.socket.protocol.extensions
        self.inflated = 0
        for extension in self.extensions:
            self.count_inflated(extension)
        self.expect("0{")
        self.socket.send('40{"user_id":"ann","organization_id":"acme","forms":"named"}')
        self.expect("40{")
        self.expect('42["connected"')
        subscribed = self.ask("subscribe", '{"channels":["kpi"]}')
        assert subscribed["success"] is True, subscribed

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.socket.close()

    def count_inflated(self, extension):
        decode = extension.decode

        def counting(frame, **options):
            self.inflated += frame.rsv1
            return decode(frame, **options)

        extension.decode = counting

    def expect(self, start):
        """The next message that is no heartbeat and not about authentication; it has to begin so."""
        while True:
            message = self.socket.recv(timeout=DEADLINE_S)
            if message == "2":
                self.socket.send("3")
            elif not message.startswith('42["authenticated"'):
                assert message.startswith(start), f"{start!r} was expected and {message[:200]!r} came"
                return message

    def ask(self, event, argument, send=None):
        """Emits with an ack id and returns the answer; `send` may send the message its own way."""
        self.asked += 1
        (send or self.socket.send)(f'42{self.asked}["{event}",{argument}]')
        start = f"43{self.asked}"
        return json.loads(self.expect(f"{start}[")[len(start) :])[0]

    def refused(self):
        """The codes of a refusal, in the event `error` and in the answer, whichever comes first."""
        event, answer = sorted([self.expect("4"), self.expect("4")])
        start = f"43{self.asked}["
        assert event.startswith('42["error",') and answer.startswith(start), (event, answer)
        return json.loads(event[2:])[1]["code"], json.loads(answer[len(start) - 1 :])[0]["code"]

    def reflects(self, text, send=None):
        """Sends text in an event whose answer has it again."""
        pong = self.ask("client:ping", json.dumps({"timestamp": text}, ensure_ascii=False), send)
        assert pong["timestamp"] == text, f"{len(text)} letters up and down again"

    def receives(self, text):
        """Publishes text and compares the event that comes, byte for byte."""
        body = json.dumps({"organization_id": "acme", "note": text}, ensure_ascii=False)
        http_connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=DEADLINE_S)
        http_connection.request("POST", "/api/ws/broadcast/kpi", body.encode(), {"content-type": "application/json"})
        response = http_connection.getresponse()
        answer = json.loads(response.read())
        http_connection.close()
        assert response.status == 200 and answer["recipients_count"] == 1, answer
        self.position = answer["position"]
        event = self.expect('42["kpi:update",')
        assert event == f'42["kpi:update",{body},"{self.position}.0"]', f"{len(text)} letters published"

    def next_position(self):
        """The position of the next event that is published."""
        epoch, offset = self.position.split(".")
        return f"{epoch}.{int(offset) + 1}.0"


def both_ways(client):
    for text in texts():
        client.reflects(text)
        client.receives(text)
    # Messages of exactly these sizes, which the heads of frames and the threshold of compression depend on.
    for size in SIZES:
        up = size - len(f'42{client.asked + 1}["client:ping",{{"timestamp": ""}}]')
        down = size - len(f'42["kpi:update",{{"organization_id": "acme", "note": ""}},"{client.next_position()}"]')
        if up >= 0 and down >= 0:
            client.reflects(text_of(up, WORDS))
            client.receives(text_of(down, WORDS))


# What is offered, and whether compression comes of it. A smaller window of the server's is never granted.
OFFERS = {
    "default": ({}, True),
    "no-compression": ({"compression": None}, False),
    "server-window-15": ({"extensions": [Deflate(server_max_window_bits=15)]}, True),
    "server-window-10": ({"extensions": [Deflate(server_max_window_bits=10)]}, False),
    "server-window-10-or-any": ({"extensions": [Deflate(server_max_window_bits=10), Deflate()]}, True),
    "client-window-unmentioned": ({"extensions": [Deflate(client_max_window_bits=None)]}, True),
    "client-window-9": ({"extensions": [Deflate(client_max_window_bits=9)]}, True),
    "client-window-15": ({"extensions": [Deflate(client_max_window_bits=15)]}, True),
    "server-without-context": ({"extensions": [Deflate(server_no_context_takeover=True)]}, True),
    "client-without-context": ({"extensions": [Deflate(client_no_context_takeover=True)]}, True),
    "everything": ({"extensions": [Deflate(True, True, 15, 10)]}, True),
    # Stored blocks and the longest codes: all that a compressor may write.
    "stored": ({"extensions": [Deflate(compress_settings={"level": 0})]}, True),
    "best": ({"extensions": [Deflate(compress_settings={"level": 9, "memLevel": 9})]}, True),
}


def offer(name):
    def case(url):
        options, deflates = OFFERS[name]
        with Client(url, **options) as client:
            agreed = [extension.name for extension in client.extensions]
            assert agreed == (["permessage-deflate"] if deflates else []), client.socket.response.headers
            for extension in client.extensions:
                # The server forgets the context of both directions, and must say so.
                assert extension.remote_no_context_takeover and extension.local_no_context_takeover, extension
                assert extension.remote_max_window_bits == 15, extension
            both_ways(client)
            # Everything of the threshold and more comes compressed, in both directions of `both_ways`.
            assert (client.inflated > len(SIZES)) is deflates, client.inflated

    return case


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def fragments(url, **options):
    """Messages in fragments of many sizes, empty ones among them, cut within letters, with pings in between."""
    with Client(url, **options) as client:
        def in_pieces_of(size):
            return lambda message: client.socket.send(iter(pieces(message.encode(), size)), text=True)

        def with_empty_ones(message):
            half = len(message) // 2
            client.socket.send(iter(["", message[:half], "", "", message[half:], ""]))

        def around_pings(message):
            def parts():
                for piece in pieces(message, max(1, len(message) // 4)):
                    yield piece
                    # Answered at once, though the message is not complete.
                    assert client.socket.ping().wait(DEADLINE_S), "no pong"

            client.socket.send(parts())

        for text in texts():
            for size in (1, 7, 125, 126, 1_024, 65_536):
                # Each fragment is a frame of its own, and a million of them would prove nothing more.
                if len(text) / size < 3_000:
                    client.reflects(text, in_pieces_of(size))
            client.reflects(text, with_empty_ones)
            client.reflects(text, around_pings)
        client.receives("still there")


def binary(url, **options):
    """Binary events are refused whatever their size, whole or in fragments; the socket stays."""
    with Client(url, **options) as client:
        noise = random.Random(1)
        for size in SIZES:
            for data in (bytes(size), noise.randbytes(size)):
                attachments = [
                    [data],
                    [iter(pieces(data, max(1, size // 3)) or [b""])],
                    [data, b"", data[: size // 2]],
                ]
                for sent in attachments:
                    client.asked += 1
                    holders = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(len(sent)))
                    client.socket.send(f'45{len(sent)}-{client.asked}["client:ping",{holders}]')
                    for attachment in sent:
                        client.socket.send(attachment)
                    assert client.refused() == ("INVALID_MESSAGE", "INVALID_MESSAGE"), size
            client.reflects(text_of(size, WORDS))
        client.receives("still there")


CASES = {
    **{name: offer(name) for name in OFFERS},
    "fragments": fragments,
    "fragments-uncompressed": lambda url: fragments(url, compression=None),
    "binary": binary,
    "binary-uncompressed": lambda url: binary(url, compression=None),
}

if __name__ == "__main__":
    _, server, case = sys.argv
    CASES[case](server)
