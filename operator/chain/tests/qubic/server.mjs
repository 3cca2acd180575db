// A node's HTTP interface with ticks that a test advances. What it is sent is checked with Qubic's own library. Prints
// its port; ends with its standard input.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const folder = process.env.COUNTERSIGN_TEST_NODE;
if (!folder) throw new Error("COUNTERSIGN_TEST_NODE is not set");
const library = createRequire(`${folder}/package.json`)("@qubic-lib/qubic-ts-library").default;
const { schnorrq, K12 } = await library.crypto;
const helper = new library.QubicHelper();

const EPOCH_START = 25_000_000;
const state = { tick: EPOCH_START, lag: 1, funded: true, broadcasts: 0 };
// By their sources, as the network keeps one of each.
const pending = new Map();
const included = [];
// What is to be bent: the next answers to a path, in order.
const bends = [];

class Refused extends Error {}

const digestOf = (bytes) => {
  const digest = new Uint8Array(32);
  K12(bytes, digest, 32);
  return digest;
};

async function read(encoded) {
  const bytes = Buffer.from(encoded, "base64");
  if (bytes.toString("base64") !== encoded) throw new Refused("it is not base64");
  if (bytes.length < 144) throw new Refused("it is too short");
  const size = bytes.readUInt16LE(78);
  if (bytes.length !== 144 + size || size > 1024) throw new Refused("its sizes do not agree");
  const amount = bytes.readBigInt64LE(64);
  if (amount < 0n) throw new Refused("its amount is negative");
  const unsigned = new Uint8Array(bytes.subarray(0, -64));
  const source = new Uint8Array(bytes.subarray(0, 32));
  if (schnorrq.verify(source, digestOf(unsigned), new Uint8Array(bytes.subarray(-64))) !== 1) {
    throw new Refused("its signature does not hold");
  }
  return {
    hash: await helper.getHumanReadableBytes(digestOf(new Uint8Array(bytes))),
    amount,
    source: await helper.getIdentity(source),
    destination: await helper.getIdentity(new Uint8Array(bytes.subarray(32, 64))),
    tickNumber: bytes.readUInt32LE(72),
    inputType: bytes.readUInt16LE(76),
    inputSize: size,
    input: bytes.subarray(80, -64),
    signature: bytes.subarray(-64).toString("base64"),
  };
}

async function broadcast({ encodedTransaction }) {
  const transaction = await read(encodedTransaction);
  if (transaction.tickNumber <= state.tick) {
    throw new Refused(
      `Target tick: ${transaction.tickNumber} for the transaction should be greater than max tick: ${state.tick}`,
    );
  }
  const other = pending.get(transaction.source);
  if (!other || other.tickNumber < transaction.tickNumber) pending.set(transaction.source, transaction);
  state.broadcasts += 1;
  return { peersBroadcasted: 3, encodedTransaction, transactionId: transaction.hash };
}

function advance(ticks) {
  for (let i = 0; i < ticks; i += 1) {
    state.tick += 1;
    for (const [source, transaction] of pending) {
      if (transaction.tickNumber !== state.tick) continue;
      pending.delete(source);
      included.push({ ...transaction, moneyFlew: transaction.amount > 0n && state.funded });
    }
  }
}

const archived = () => state.tick - state.lag;

function byHash({ hash }) {
  const found = included.find((transaction) => transaction.hash === hash && transaction.tickNumber <= archived());
  if (!found) return undefined;
  const { amount, input, ...rest } = found;
  const timestamp = String(1_700_000_000_000 + (found.tickNumber - EPOCH_START) * 1000);
  return { transaction: { ...rest, amount: String(amount), inputData: input.toString("base64"), timestamp } };
}

const routes = {
  "GET /live/v1/tick-info": () => ({
    tickInfo: { tick: state.tick, duration: 2, epoch: 180, initialTick: EPOCH_START },
  }),
  "POST /live/v1/broadcast-transaction": broadcast,
  "GET /query/v1/getLastProcessedTick": () => ({
    tickNumber: archived(),
    epoch: 180,
    intervalInitialTick: EPOCH_START,
  }),
  "POST /query/v1/getTransactionByHash": byHash,
  "POST /test": ({ ticks = 0, forget = false, bend = [], ...settings }) => {
    Object.assign(state, settings);
    if (forget) pending.clear();
    bends.push(...bend);
    advance(ticks);
    const tell = ({ hash, tickNumber, source, destination, amount, inputType, input }) => ({
      id: hash,
      tick: tickNumber,
      source,
      destination,
      amount: Number(amount),
      type: inputType,
      input: input.toString("hex"),
    });
    const waiting = [...pending.values()].map(tell);
    return { ...state, archived: archived(), pending: waiting, included: included.map(tell), bends: bends.length };
  },
};

const json = (status, body) => ({ status, type: "application/json", body: JSON.stringify(body) });
const html = (status) => ({ status, type: "text/html", body: "<html><body>Hello</body></html>" });
const change = (answer, edit) => {
  const body = JSON.parse(answer.body);
  edit(body);
  return json(answer.status, body);
};
const OTHER = "a".repeat(60);

// Each makes another answer of the right one; the work was done by then.
const bent = {
  never: () => undefined,
  twice: (answer) => ({ ...answer, body: answer.body + answer.body }),
  html: () => html(200),
  lost: () => html(404),
  wrong: () => json(404, { code: 12, message: "no such method", details: [] }),
  error: () => json(500, { code: 13, message: "failed to get it", details: [] }),
  many: () => json(429, { code: 8, message: "slow down", details: [] }),
  giant: (answer) => ({ ...answer, body: answer.body.padEnd(1024 * 1024) }),
  empty: () => json(200, {}),
  cut: (answer) => ({ ...answer, body: answer.body.slice(0, -1) }),
  zero: (answer) =>
    change(answer, (body) => {
      if (body.tickInfo) body.tickInfo.tick = 0;
      else body.tickNumber = 0;
    }),
  stale: (answer) => change(answer, (body) => (body.tickInfo.tick -= 10)),
  far: (answer) => change(answer, (body) => (body.tickInfo.tick += 1_000_000)),
  beyond: (answer) =>
    change(answer, (body) => {
      if (body.tickInfo) body.tickInfo.tick = 2 ** 32;
      else body.tickNumber = 2 ** 32;
    }),
  alone: (answer) => change(answer, (body) => (body.peersBroadcasted = 0)),
  id: (answer) =>
    change(answer, (body) => {
      if (body.transaction) body.transaction.hash = OTHER;
      else body.transactionId = OTHER;
    }),
  tick: (answer) => change(answer, (body) => (body.transaction.tickNumber += 1)),
  time: (answer) => change(answer, (body) => (body.transaction.timestamp = "yesterday")),
};

async function answer(route, text) {
  if (!routes[route]) return html(404);
  try {
    const body = await routes[route](text ? JSON.parse(text) : undefined);
    return body ? json(200, body) : json(404, { code: 5, message: "transaction not found", details: [] });
  } catch (error) {
    if (error instanceof Refused) return json(400, { code: 3, message: error.message, details: [] });
    return json(500, { code: 13, message: String(error), details: [] });
  }
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const right = await answer(`${request.method} ${request.url}`, Buffer.concat(chunks).toString());
  const index = bends.findIndex(({ path }) => path === request.url);
  const given = index < 0 ? right : bent[bends.splice(index, 1)[0].how](right);
  if (!given) return;
  response.writeHead(given.status, { "content-type": given.type });
  response.end(given.body);
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));
process.stdin.on("end", () => process.exit(0)).resume();
