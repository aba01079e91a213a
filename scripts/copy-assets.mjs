// Copies what is not TypeScript under ts/ (templates) to dist/, at the same relative path.
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

await cp(path.join(root, 'ts'), path.join(root, 'dist'), {
  recursive: true,
  filter: (source) => !source.endsWith('.ts'),
});
