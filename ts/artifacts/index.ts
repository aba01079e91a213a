/** The artifacts of a cluster: what other parts of the CLI use. */
export { type BuiltComponent, buildComponent } from './build.js';
export {
  type Catalog,
  type Component,
  canBeBuilt,
  clusterComponents,
  componentsFor,
  defaultVersion,
  everyChoice,
  isOnlyPulled,
  loadCatalog,
} from './catalog.js';
export { type FolderContent, makeFolder, readFolder, sha256File } from './files.js';
export { type ArtifactState, type ListedFile, listFiles, lockFiles, verifyCache } from './inspect.js';
export { ArtifactLock } from './lock.js';
export { cachedFile, imageFolder, type LockedArtifact, lockedArtifacts } from './places.js';
export {
  type ArchitectureArtifacts,
  imageReferences,
  type PreparedArtifacts,
  type PreparedBinary,
  type PreparedBundle,
  type PreparedImage,
  type PrepareOptions,
  prepareArtifacts,
  wouldBuild,
} from './prepare.js';
export type { ArtifactProgress, OnProgress } from './progress.js';
export { pullMissingImages } from './registry.js';
export { machineArchitecture } from './toolchain.js';
