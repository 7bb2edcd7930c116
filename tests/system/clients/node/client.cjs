// npm `mqtt`: publish COUNT messages, wait for a command, say goodbye. Words: PORT VERSION QOS COUNT NAME.
"use strict";
const mqtt = require("mqtt");

async function main(port, version, qos, count, name) {
  const client = await mqtt.connectAsync({
    host: "127.0.0.1", port, clientId: name, protocolVersion: version === "5" ? 5 : 4, reconnectPeriod: 0,
  });
  const told = new Promise((resolve) => client.on("message", (_topic, payload) => resolve(payload.toString())));
  const [granted] = await client.subscribeAsync(`hw/clients/${name}/cmd`, { qos });
  if (granted.qos >= 0x80) throw new Error(`refused: ${granted.qos}`);
  const sent = [];
  for (let n = 0; n < count; n++) sent.push(client.publishAsync(`hw/clients/${name}/data/m${n}`, String(n), { qos }));
  await Promise.all(sent);
  console.log("acknowledged", sent.length);
  console.log("command", await told);
  await client.endAsync();
}

const [port, version, qos, count, name] = process.argv.slice(2);
main(Number(port), version, Number(qos), Number(count), name).catch((error) => {
  console.error(error);
  process.exit(1);
});
