/** A DNS server that knows no name but answers each with an address outside, and notes what it was asked. */
import { createSocket } from 'node:dgram';

/** Of TEST-NET-1 (RFC 5737): nobody has it. A program that asks a name and goes on tries it. */
export const outside = '192.0.2.9';

export interface NameServer {
  /** `ADDRESS asks NAME`, each once. */
  readonly asked: ReadonlySet<string>;
  close(): Promise<void>;
}

const TYPE_A = 1;

/** Listens on port 53 of an address of this machine. */
export async function nameServer(address: string): Promise<NameServer> {
  const asked = new Set<string>();
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    const question = readQuestion(message);
    if (question === undefined) return;
    asked.add(`${from.address} asks ${question.name}`);
    socket.send(answer(message.subarray(0, question.end), question.type), from.port, from.address);
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(53, address, resolve);
  });
  return { asked, close: () => new Promise((resolve) => socket.close(() => resolve())) };
}

/** The first question of a message (RFC 1035, section 4.1). */
function readQuestion(message: Buffer): { name: string; type: number; end: number } | undefined {
  const labels: string[] = [];
  let at = 12;
  for (let length = message[at]; length !== undefined && length > 0 && length < 64; length = message[at]) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  if (message[at] !== 0 || message.length < at + 5) return undefined;
  return { name: labels.join('.'), type: message.readUInt16BE(at + 1), end: at + 5 };
}

function answer(question: Buffer, type: number): Buffer {
  const head = Buffer.from(question);
  const records = type === TYPE_A ? 1 : 0;
  // A response, recursion available; one question, and one answer or none.
  head.writeUInt16BE(0x8180, 2);
  for (const [index, count] of [1, records, 0, 0].entries()) head.writeUInt16BE(count, 4 + 2 * index);
  if (records === 0) return head;
  // The name is the question's (a pointer to byte 12), class IN, for a minute.
  const record = Buffer.from([0xc0, 12, 0, TYPE_A, 0, 1, 0, 0, 0, 60, 0, 4, ...outside.split('.').map(Number)]);
  return Buffer.concat([head, record]);
}
