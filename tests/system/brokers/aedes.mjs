// The broker aedes on a port of the loopback; prints the port once it listens.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
const server = createServer(broker.handle)
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log(server.address().port))
