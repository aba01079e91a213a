/** Pushes an image as a client of the registry does: https://github.com/opencontainers/distribution-spec/blob/main/spec.md */
import { createHash } from 'node:crypto';
import https from 'node:https';
import { type ImageDescription, ociImage } from '../../ts/artifacts/oci.js';

export interface RegistryAccess {
  /** HOST:PORT */
  readonly address: string;
  /** PEM; the server must be what it certifies. */
  readonly ca: string;
  readonly user: string;
  readonly password: string;
}

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
  readonly body: string;
}

/** One request; nothing is followed. */
export function ask(
  access: RegistryAccess,
  method: string,
  target: string,
  body?: { readonly type: string; readonly content: Buffer },
): Promise<Answer> {
  const { address, ca, user, password } = access;
  return new Promise((resolve, reject) => {
    const request = https.request(
      new URL(target, `https://${address}`),
      {
        method,
        ca,
        auth: `${user}:${password}`,
        agent: false,
        headers: body === undefined ? {} : { 'content-type': body.type, 'content-length': body.content.length },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            location: response.headers.location,
            body: Buffer.concat(chunks).toString(),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body?.content);
  });
}

/** Pushes the image as REPOSITORY:TAG. */
export async function push(
  access: RegistryAccess,
  repository: string,
  tag: string,
  image: ImageDescription,
): Promise<void> {
  const { manifest, blobs } = ociImage(image);
  const must = async (status: number, answer: Promise<Answer>): Promise<Answer> => {
    const given = await answer;
    if (given.status !== status)
      throw new Error(`the registry said ${given.status} in place of ${status}: ${given.body}`);
    return given;
  };
  for (const content of blobs) {
    const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
    const { location = '' } = await must(202, ask(access, 'POST', `/v2/${repository}/blobs/uploads/`));
    const target = new URL(location, `https://${access.address}`);
    target.searchParams.set('digest', digest);
    const body = { type: 'application/octet-stream', content };
    await must(201, ask(access, 'PUT', `${target.pathname}${target.search}`, body));
  }
  const body = { type: 'application/vnd.oci.image.manifest.v1+json', content: manifest };
  await must(201, ask(access, 'PUT', `/v2/${repository}/manifests/${tag}`, body));
}
