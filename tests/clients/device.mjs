// A device by Node's `mqtt`: connects and subscribes as it is told by its argument, prints what happens as
// JSON lines, and publishes to each topic that it reads from standard input.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const settings = JSON.parse(process.argv[2]);
const say = (kind, value) => console.log(JSON.stringify([kind, value]));
const file = (name) => (name ? readFileSync(name) : undefined);

const client = mqtt.connect({
  protocol: "mqtts",
  host: "localhost",
  port: settings.port,
  ca: file(settings.ca),
  cert: file(settings.certificate),
  key: file(settings.key),
  ALPNProtocols: settings.alpn,
  protocolVersion: settings.version,
  clientId: settings.clientId,
  clean: settings.clean,
  reconnectPeriod: 0,
  properties: settings.version === 5 && !settings.clean
    ? { sessionExpiryInterval: settings.sessionSeconds }
    : undefined,
});
let refusal;
client.on("connect", (connack) => {
  say("connected", connack.sessionPresent);
  client.subscribe(settings.topic, { qos: 1 }, (error, granted, suback) => {
    const code = suback?.granted?.[0] ?? granted?.[0]?.qos ?? error?.code;
    say(code < 0x80 ? "granted" : "denied", code ?? String(error));
  });
});
client.on("message", (topic, payload) => say("message", payload.toString("base64")));
client.on("error", (error) => {
  // A number is the code of a CONNACK, a word is an error of the connection.
  if (typeof error.code === "number") say("refused", (refusal = error.code));
});
client.on("close", () => {
  if (refusal === undefined) process.exitCode = 1;
  process.stdin.destroy();
});
createInterface({ input: process.stdin }).on("line", (topic) => client.publish(topic, "{}", { qos: 1 }));
