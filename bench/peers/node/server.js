// Node's socket.io with the little that the load tool needs.
// usage: node server.js PORT [--deflate]

import { createServer } from "node:http";
import { Server } from "socket.io";

const ROOM = "kpi:org:org_bench";
const [port, ...flags] = process.argv.slice(2);
const deflate = flags.includes("--deflate");

const http = createServer(answer);
const io = new Server(http, {
  path: "/ws",
  serveClient: false,
  perMessageDeflate: deflate ? { threshold: 1024 } : false,
});

io.on("connection", (socket) => {
  socket.on("authenticate", (_identity, ack) => ack({ success: true, socket_id: socket.id }));
  socket.on("subscribe", (_wanted, ack) => {
    socket.join(ROOM);
    ack({ success: true, rooms: [ROOM] });
  });
});

function answer(request, response) {
  if (request.method !== "POST" || request.url !== "/api/ws/broadcast/kpi") {
    response.writeHead(404).end();
    return;
  }
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    io.to(ROOM).emit("kpi:update", JSON.parse(Buffer.concat(chunks)));
    response.writeHead(200, { "content-type": "application/json" }).end('{"success":true}');
  });
}

http.listen(Number(port), "127.0.0.1");
