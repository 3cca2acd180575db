// Answers each line of JSON on its standard input with one, by Qubic's own library. Bytes are hexadecimal digits.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const folder = process.env.COUNTERSIGN_TEST_NODE;
if (!folder) throw new Error("COUNTERSIGN_TEST_NODE is not set");
const library = createRequire(`${folder}/package.json`)("@qubic-lib/qubic-ts-library").default;
const { schnorrq, K12 } = await library.crypto;
const helper = new library.QubicHelper();

const bytes = (hex) => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const k12 = (input, length) => {
  const output = new Uint8Array(length);
  K12(input, output, length);
  return output;
};

const answers = {
  k12: ({ input, length }) => ({ output: hex(k12(bytes(input), length)) }),
  key: async ({ seed }) => {
    const { publicKey, publicId } = await helper.createIdPackage(seed);
    return { public: hex(publicKey), identity: publicId };
  },
  identity: async ({ public: key }) => ({
    upper: await helper.getIdentity(bytes(key)),
    lower: await helper.getHumanReadableBytes(bytes(key)),
  }),
  valid: async ({ identity }) => {
    const valid = await helper.verifyIdentity(identity);
    return { valid, public: hex(helper.getIdentityBytes(identity)) };
  },
  sign: async ({ seed, digest }) => {
    const { publicKey, privateKey } = await helper.createIdPackage(seed);
    return { signature: hex(schnorrq.sign(privateKey, publicKey, bytes(digest))) };
  },
  verify: ({ public: key, digest, signature }) => ({
    valid: schnorrq.verify(bytes(key), bytes(digest), bytes(signature)) === 1,
  }),
  transaction: async ({ seed, destination, amount, tick, type, input }) => {
    const { publicKey } = await helper.createIdPackage(seed);
    const payload = new library.DynamicPayload(1024);
    payload.setPayload(bytes(input));
    const transaction = new library.QubicTransaction()
      .setSourcePublicKey(new library.PublicKey(publicKey))
      .setDestinationPublicKey(new library.PublicKey(bytes(destination)))
      .setAmount(amount)
      .setTick(tick)
      .setInputType(type)
      .setPayload(payload);
    const built = await transaction.build(seed);
    return { bytes: hex(built), id: transaction.getId() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...question } = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await answers[ask](question))}\n`);
}
