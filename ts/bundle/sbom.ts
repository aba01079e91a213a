/**
 * The bill of materials of a bundle, as CycloneDX JSON (https://cyclonedx.org/docs/1.6/json/).
 *
 * It names every file with its digest and, for Go programs, the modules they were built from: what a scanner needs to
 * tell whether a known fault is in it. It holds no time and no serial number, so that the same bundle has the same one.
 */
import { Enums, Models, Serialize, Spec } from '@cyclonedx/cyclonedx-library';
import type { Architecture } from '../types/cluster.js';
import type { GoBuildInfo, GoModule } from './go-build-info.js';

/** A file of the bundle, as the bill names it. */
export interface BilledFile {
  /** In the bundle. */
  readonly path: string;
  readonly sha256: string;
  readonly name: string;
  readonly version: string;
  readonly architecture: Architecture;
  /** The reference of an image. */
  readonly image?: string | undefined;
  /** Where it was published. */
  readonly url?: string | undefined;
  /** What it was built with, e.g. `go1.26.8, gcc 12.2.0, libseccomp 2.5.4`. */
  readonly toolchain?: string | undefined;
  /** Of the program, or of each program in an image. */
  readonly programs: ReadonlyArray<GoBuildInfo>;
}

/** The text of sbom.cdx.json. */
export function billOfMaterials(kubernetes: string, files: ReadonlyArray<BilledFile>): string {
  const root = new Models.Component(Enums.ComponentType.Application, 'k8s-ans-bundle', {
    version: kubernetes,
    bomRef: 'k8s-ans-bundle',
  });
  const bom = new Models.Bom({ metadata: new Models.Metadata({ component: root }) });
  const modules = new Map<string, Models.Component>();
  for (const file of files) {
    const component = fileComponent(file);
    for (const program of file.programs) {
      for (const module of modulesOf(program)) {
        const purl = modulePurl(module);
        const library =
          modules.get(purl) ??
          new Models.Component(Enums.ComponentType.Library, module.path, {
            version: module.version,
            bomRef: purl,
            purl,
          });
        modules.set(purl, library);
        component.dependencies.add(library.bomRef);
      }
    }
    root.dependencies.add(component.bomRef);
    bom.components.add(component);
  }
  for (const library of modules.values()) bom.components.add(library);
  const serializer = new Serialize.JsonSerializer(new Serialize.JSON.Normalize.Factory(Spec.Spec1dot6));
  return `${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`;
}

/** The package URL of a Go module (https://github.com/package-url/purl-spec, types/golang). */
export function modulePurl({ path, version }: GoModule): string {
  const name = path.toLowerCase().split('/').map(encodeURIComponent).join('/');
  return `pkg:golang/${name}@${encodeURIComponent(version)}`;
}

/** The package URL of an image (types/oci) or of a published program (types/generic). */
export function filePurl({ name, version, architecture, image, url }: BilledFile): string {
  const text = (values: Record<string, string | undefined>): string =>
    Object.entries(values)
      .flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`]))
      .join('&');
  if (image === undefined) {
    const where = text({ arch: architecture, download_url: url });
    return `pkg:generic/${encodeURIComponent(name)}@${encodeURIComponent(version)}?${where}`;
  }
  const colon = image.lastIndexOf(':');
  const repository = image.slice(0, colon);
  const last = repository.slice(repository.lastIndexOf('/') + 1).toLowerCase();
  return `pkg:oci/${last}?${text({ arch: architecture, repository_url: repository, tag: image.slice(colon + 1) })}`;
}

function fileComponent(file: BilledFile): Models.Component {
  const type = file.image === undefined ? Enums.ComponentType.Application : Enums.ComponentType.Container;
  const properties = new Models.PropertyRepository([new Models.Property('k8s-ans:bundle:path', file.path)]);
  if (file.toolchain !== undefined) properties.add(new Models.Property('k8s-ans:build:toolchain', file.toolchain));
  return new Models.Component(type, file.name, {
    version: file.version,
    bomRef: file.path,
    purl: filePurl(file),
    hashes: new Models.HashDictionary([[Enums.HashAlgorithm['SHA-256'], file.sha256]]),
    properties,
  });
}

/** The module of the program, what it was built with, and Go's standard library. */
function modulesOf({ go, main, dependencies }: GoBuildInfo): GoModule[] {
  const standard = { path: 'std', version: go.replace(/^go/, '').replace(/ .*$/, '') };
  return [...(main === undefined ? [] : [main]), ...dependencies, standard];
}
