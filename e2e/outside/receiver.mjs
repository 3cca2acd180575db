// A receiver of webhooks (https://www.standardwebhooks.com), and a few pages that other hosts could have: what things cost, and what a careless or hostile one says.
//   node receiver.mjs ADDRESS PORT CERTIFICATE KEY SECRET LOG
// Each alarm is kept once, a line of LOG each; every request for anything else is kept as {"asked": PATH}.
import { appendFileSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:https";
import { join } from "node:path";

const [address, port, certificate, key, secret, log] = process.argv.slice(2);
// The packages stand in a folder of their own.
const { Webhook } = createRequire(join(process.env.COUNTERSIGN_TEST_NODE, "x.js"))("standardwebhooks");
const webhook = new Webhook(readFileSync(secret, "utf8").trim());
const seen = new Set();
const keep = (entry) => appendFileSync(log, JSON.stringify(entry) + "\n");

function alarm(request, body, response) {
  try {
    webhook.verify(body, request.headers);
  } catch (error) {
    keep({ refused: String(error.message) });
    return response.writeHead(401).end(String(error.message));
  }
  const id = request.headers["webhook-id"];
  if (!seen.has(id)) {
    seen.add(id);
    keep({ id, alarm: JSON.parse(body) });
  }
  response.writeHead(204).end();
}

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks).toString();
    const url = new URL(request.url, "https://receiver");
    if (url.pathname === "/alarms" && request.method === "POST") return alarm(request, body, response);
    keep({ asked: url.pathname });
    switch (url.pathname) {
      case "/hello":
        return response.writeHead(200, { "content-type": "application/json" }).end('{"hello":"world"}');
      case "/echo":
        // Everything that it was shown, in the head and in the body.
        response.writeHead(200, { "content-type": "application/json", "x-echo": request.headers.authorization ?? "" });
        return response.end(JSON.stringify({ headers: request.headers, body }));
      case "/v1/price":
        response.writeHead(200, { "content-type": "application/json" });
        return response.end(JSON.stringify({ symbol: url.searchParams.get("symbol"), price: "1834.20" }));
      case "/v1/images/generations":
        // One grey pixel.
        response.writeHead(200, { "content-type": "application/json" });
        return response.end(
          JSON.stringify({ data: [{ b64_json: "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGOoBwAAgQCAQdsgMQAAAABJRU5ErkJggg==" }] }),
        );
      case "/redirect":
        return response.writeHead(302, { location: url.searchParams.get("to") }).end();
      default:
        return response.writeHead(404).end();
    }
  });
}).listen(Number(port), address, () => console.log("listening"));
